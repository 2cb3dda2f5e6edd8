"""timm's and torchvision's models as backbones; mmdet's own need no adapter."""

import sys
from typing import Any, Dict, Optional, Sequence, Tuple

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from asl_det.errors import UserError
from asl_det.registry import MODELS

COUNTER = 'num_batches_tracked'


class _Backbone(BaseModule):
    """A classification network without its classifier.

    Subclasses set ``self.model`` and call :meth:`_prepare`.
    """

    def _prepare(self, checkpoint: Optional[str], match: str, freeze: Sequence[str],
                 skip: Sequence[str], norm_eval: bool) -> None:
        if match not in ('name', 'order'):
            raise UserError(f"match={match!r}: expected 'name' or 'order'")
        if checkpoint:
            load_weights(self.model, checkpoint, match)
        self.norm_eval = norm_eval
        self.freeze, self.skip = tuple(freeze), tuple(skip)
        self._frozen = [self._part(name).requires_grad_(False) for name in freeze]
        for name in skip:
            self._part(name)
        replace_by_identity(self.model, skip)

    def _part(self, name: str) -> nn.Module:
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            raise UserError(f'{type(self.model).__name__} has no module {name!r}, which freeze or '
                            f'skip names; it has '
                            f'{", ".join(n for n, _ in self.model.named_children())} and their '
                            'parts') from None

    def train(self, mode: bool = True) -> '_Backbone':
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self.norm_eval:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@MODELS.register_module()
class TimmBackbone(_Backbone):
    """Any timm model without its classifier, TResNet-M, -L and -XL included.

    Args:
        model_name: as for ``timm.create_model``.
        pretrained: download timm's weights.
        checkpoint: weights from a file, a URL or ``package://``, through the
            allow-list. timm's converter for the model is applied, so the
            published TResNet checkpoints load without ``inplace_abn``.
        match: how names of the checkpoint meet names of the model: 'name', or
            'order' for the same network written by others (every shape must
            agree, one after the other).
        freeze: modules that are not trained and stay in eval mode, e.g.
            ``('conv_stem', 'bn1', 'blocks.0')``.
        skip: modules that are left out, because the inputs are what they
            would give (features from ``tools/cache_features.py``).
        norm_eval: batch norm uses its stored statistics in training too.
        **kwargs: of ``timm.create_model``, e.g. ``drop_path_rate``.

    Raises:
        UserError: if timm is missing or has no such model, or weights do not
            fit.
    """

    def __init__(self, model_name: str, pretrained: bool = False,
                 checkpoint: Optional[str] = None, match: str = 'name',
                 freeze: Sequence[str] = (), skip: Sequence[str] = (), norm_eval: bool = False,
                 **kwargs: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise UserError('TimmBackbone needs timm: pip install timm') from error
        if not timm.is_model(model_name):
            near = timm.list_models(f'*{model_name.split("_")[0].split(".")[0]}*')[:8]
            raise UserError(f'timm {timm.__version__} has no model {model_name!r}'
                            + (f'; near it: {", ".join(near)}' if near else ''))
        self.model = timm.create_model(model_name, pretrained=pretrained, num_classes=0,
                                       global_pool='', **kwargs)
        self._prepare(checkpoint, match, freeze, skip, norm_eval)

    def forward(self, inputs: Tensor) -> Tuple[Tensor]:
        """``(N, 3, H, W)`` to one map ``(N, C, h, w)``, or tokens ``(N, L, C)``."""
        return (self.model.forward_features(inputs),)


@MODELS.register_module()
class TorchvisionBackbone(_Backbone):
    """Any torchvision classification model up to what it pools.

    Args:
        model_name: as for ``torchvision.models.get_model``.
        weights: name of torchvision's weights, e.g. 'IMAGENET1K_V2' or
            'DEFAULT', which are downloaded.
        checkpoint, match, freeze, skip, norm_eval: as in :class:`TimmBackbone`.
        node: the output, where it is not what the last pooling reads; e.g.
            'encoder.ln' for a ViT.
        **kwargs: of the model.
    """

    def __init__(self, model_name: str, weights: Optional[str] = None,
                 checkpoint: Optional[str] = None, match: str = 'name',
                 freeze: Sequence[str] = (), skip: Sequence[str] = (), norm_eval: bool = False,
                 node: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__()
        from torchvision import models
        from torchvision.models.feature_extraction import (
            create_feature_extractor,
            get_graph_node_names,
        )
        try:
            network = models.get_model(model_name, weights=None, **kwargs)
            if weights:
                checkpoint = models.get_model_weights(model_name)[weights].url
        except (ValueError, KeyError) as error:
            raise UserError(f'TorchvisionBackbone(model_name={model_name!r}, weights={weights!r}):'
                            f' torchvision has none such ({error})') from error
        if node is None:
            names = get_graph_node_names(network)[0]
            pools = [i for i, n in enumerate(names)
                     if n.split('.')[-1] in ('avgpool', 'adaptive_avg_pool2d')]
            if not pools:
                raise UserError(f'{model_name} has no last pooling: give node=, the name of the '
                                f'output, one of: {", ".join(names[-8:])}')
            node = names[pools[-1] - 1]
        self.model = create_feature_extractor(network, {node: 'features'})
        self._prepare(checkpoint, match, freeze, skip, norm_eval)

    def forward(self, inputs: Tensor) -> Tuple[Tensor]:
        """``(N, 3, H, W)`` to one map ``(N, C, h, w)``, or tokens ``(N, L, C)``."""
        return (self.model(inputs)['features'],)


def replace_by_identity(model: nn.Module, names: Sequence[str]) -> None:
    """Take modules out of a network; what reaches them passes through."""
    for name in names:
        owner, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(owner), attribute, nn.Identity())


def load_weights(model: nn.Module, checkpoint: str, match: str) -> None:
    """Load a classification checkpoint into a network without classifier.

    All weights of ``model`` must be found; what the checkpoint has beyond
    them (the classifier) is named in the log.

    Args:
        model: the network.
        checkpoint: file, URL or ``package://`` name.
        match: 'name' or 'order', see :class:`TimmBackbone`.

    Raises:
        UserError: if a weight is missing or has another shape.
    """
    found = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    for key in ('state_dict', 'model'):
        found = found.get(key, found)
    found = {k.removeprefix('module.'): v for k, v in found.items() if isinstance(v, Tensor)}
    wanted = model.state_dict()
    if match == 'order':
        names = [k for k in wanted if not k.endswith(COUNTER)]
        given = [k for k in found if not k.endswith(COUNTER)]
        left_over = given[len(names):]
        found = {name: found[k] for name, k in zip(names, given, strict=False)}
    else:
        found = _as_timm_names(model, found)
        left_over = [k for k in found if k not in wanted]
        found = {k: v for k, v in found.items() if k in wanted}
    for name, value in wanted.items():
        if name.endswith(COUNTER):
            found.setdefault(name, value)
        elif name not in found:
            raise UserError(f'checkpoint {checkpoint} has no weight {name!r} of '
                            f'{type(model).__name__} (match={match!r})')
        elif found[name].shape != value.shape:
            raise UserError(f'checkpoint {checkpoint}: {name!r} has shape '
                            f'{tuple(found[name].shape)}, but {type(model).__name__} needs '
                            f'{tuple(value.shape)} (match={match!r})')
    model.load_state_dict(found)
    print_log(f'backbone weights from {checkpoint}; not used: {", ".join(left_over) or "none"}',
              logger='current')


def _as_timm_names(model: nn.Module, found: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Apply timm's own converter of foreign checkpoints, where the model has one."""
    converter = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if converter is None or not type(model).__module__.startswith('timm.'):
        return found
    return converter(found, model)
