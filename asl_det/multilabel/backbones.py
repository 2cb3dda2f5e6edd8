"""timm's and torchvision's models as backbones; mmdet's own need no adapter."""

import copy
import sys
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from asl_det.compat.weights import COUNTER, load_weights, weights_of
from asl_det.errors import DownloadError, UserError
from asl_det.registry import MODELS, register


class Backbone(BaseModule):
    """A classification network without its classifier.

    Subclasses set ``self.model`` and call :meth:`_prepare`.

    Attributes:
        num_features: channels of the output.
        pooled: the output is ``(N, num_features)``, as the network's own
            classifier reads it; else a map ``(N, num_features, h, w)``, or
            tokens ``(N, L, num_features)`` without class tokens.
        classifier: name of the network's own last layer in its files, None
            if it has several or none.
    """

    model: Any
    num_features: int
    pooled: bool
    classifier: Optional[str]

    def _prepare(self, checkpoint: Optional[str], match: str, freeze: Sequence[str],
                 skip: Sequence[str], norm_eval: bool) -> None:
        if match not in ('name', 'order'):
            raise UserError(f"match={match!r}: expected 'name' or 'order'")
        if checkpoint:
            self._load(checkpoint, match)
        self.norm_eval = norm_eval
        self.freeze, self.skip = tuple(freeze), tuple(skip)
        self._frozen = [self._part(name).requires_grad_(False) for name in freeze]
        for name in skip:
            self._part(name)
        replace_by_identity(self.model, skip)

    def init_weights(self) -> None:
        """Does nothing: the network is initialised, or has its weights, since it was built.

        mmengine would call the ``init_weights`` that timm's networks have,
        at the start of every training.
        """

    def features(self, inputs: Tensor) -> Tensor:
        """What the network itself pools, in its own layout."""
        raise NotImplementedError

    def split(self, weights: Dict[str, Tensor]) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """Weights of a classification network as those of ``self.model``, and the others."""
        weights = self._converted(weights)
        own = self.model.state_dict()
        return ({k: v for k, v in weights.items() if k in own},
                {k: v for k, v in weights.items() if k not in own})

    def _converted(self, weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
        return weights

    def _load(self, checkpoint: str, match: str) -> None:
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
        weights = weights_of(content, checkpoint)
        if match == 'order':
            names = [k for k in self.model.state_dict() if not k.endswith(COUNTER)]
            given = [k for k in weights if not k.endswith(COUNTER)]
            used = {name: weights[k] for name, k in zip(names, given, strict=False)}
            rest = given[len(names):]
        else:
            used, others = self.split(weights)
            rest = list(others)
        load_weights(self.model, used, checkpoint, take='all', not_used=rest,
                     hint=f'give weights of this network (match={match!r})')

    def _part(self, name: str) -> nn.Module:
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            raise UserError(f'{type(self.model).__name__} has no module {name!r}, which freeze or '
                            f'skip names; it has '
                            f'{", ".join(n for n, _ in self.model.named_children())} and their '
                            'parts') from None

    def train(self, mode: bool = True) -> 'Backbone':
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self.norm_eval:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@register(MODELS)
class TimmBackbone(Backbone):
    """Any timm model without its classifier, TResNet-M, -L and -XL included.

    Args:
        model_name: as for ``timm.create_model``.
        pretrained: download timm's weights.
        checkpoint: weights from a file, a URL or ``package://``, through the
            allow-list, without the classifier (see the argument of the same
            name of :class:`MultiLabelClassifier`). timm's converter for the
            model is applied, so the published TResNet checkpoints load
            without ``inplace_abn``.
        match: how names of the checkpoint meet names of the model: 'name', or
            'order' for the same network written by others (every shape must
            agree, one after the other).
        freeze: modules that are not trained and stay in eval mode, e.g.
            ``('conv_stem', 'bn1', 'blocks.0')``.
        skip: modules that are left out, because the inputs are what they
            would give (features from ``asl-det data features``).
        norm_eval: batch norm uses its stored statistics in training too.
        pooled: output what timm's own classifier reads (its pooling, class
            token, last norm), not the map. :class:`MultiLabelClassifier`
            sets it as its head needs.
        **kwargs: of ``timm.create_model``, e.g. ``drop_path_rate``, or
            ``img_size`` for networks of a fixed size.

    Raises:
        UserError: if timm is missing or has no such model, weights do not
            fit, or the model has no map and ``pooled`` is False.
    """

    def __init__(self, model_name: str, pretrained: bool = False,
                 checkpoint: Optional[str] = None, match: str = 'name',
                 freeze: Sequence[str] = (), skip: Sequence[str] = (), norm_eval: bool = False,
                 pooled: bool = False, **kwargs: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise UserError('TimmBackbone needs timm: pip install timm') from error
        if not isinstance(model_name, str) or not timm.is_model(model_name):
            near = timm.list_models(f'*{str(model_name).split("_")[0].split(".")[0]}*')[:8]
            raise UserError(f'timm {timm.__version__} has no model {model_name!r}'
                            + (f'; near it: {", ".join(near)}' if near else ''))
        try:
            self.model = timm.create_model(model_name, pretrained=pretrained, num_classes=0,
                                           **kwargs)
        except Exception as error:  # of timm, or of the many that fetch its weights
            reason = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
            if pretrained and not isinstance(error, TypeError):
                raise DownloadError(
                    f'weights of timm for {model_name} can not be had ({reason}): give them as '
                    'checkpoint=FILE, or pretrained=False') from error
            raise UserError(f'timm does not make {model_name} with {kwargs} ({reason})') from error
        self.pooled = pooled
        name = self.model.pretrained_cfg.get('classifier')
        self.classifier = name if isinstance(name, str) else None
        tokens = [v.size(1) for k, v in self.model.named_parameters() if k.startswith('cls_token')]
        self.prefix = getattr(self.model, 'num_prefix_tokens', max(tokens, default=0))
        if pooled:
            self.num_features = getattr(self.model, 'head_hidden_size', self.model.num_features)
        else:
            self._prepare_map(kwargs.get('in_chans', 3), kwargs.get('img_size'))
        self._prepare(checkpoint, match, freeze, skip, norm_eval)

    def features(self, inputs: Tensor) -> Tensor:
        return self.model.forward_features(inputs)

    def forward(self, inputs: Tensor) -> Tuple[Tensor]:
        """``(N, 3, H, W)`` to one tensor, see :attr:`pooled`."""
        x = self.features(inputs)
        if self.pooled:
            return (self.model.forward_head(x, pre_logits=True),)
        return (self._map(x),)

    def _prepare_map(self, channels: int, size: Any) -> None:
        """Learn from a twin on the meta device, without computing, what the map is made of."""
        size = size or self.model.pretrained_cfg['input_size'][1:]
        size = (size, size) if isinstance(size, int) else size
        twin = copy.deepcopy(self.model).to('meta').eval()
        with torch.device('meta'):
            x = self._map(twin.forward_features(torch.zeros(1, channels, *size)))
        self.num_features = x.size(-1 if x.dim() == 3 else 1)
        # What only timm's head uses would never get a gradient, an error in distributed training.
        names, parameters = zip(*twin.named_parameters(), strict=True)
        grads = torch.autograd.grad(x.sum(), parameters, allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            if grad is None:
                self.model.get_parameter(name).requires_grad_(False)

    def _map(self, x: Any) -> Tensor:
        """A map ``(N, C, h, w)``, or tokens of places ``(N, L, C)``, of timm's features."""
        if isinstance(x, Tensor) and x.dim() == 4:
            nhwc = getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC'
            return x.permute(0, 3, 1, 2) if nhwc else x
        if isinstance(x, Tensor) and x.dim() == 3 and x.size(1) > self.prefix:
            return x[:, self.prefix:]
        raise UserError(f'{type(self.model).__name__} gives no single map of features for a head '
                        'that attends to one: use LinearHead, or another backbone')

    def _converted(self, weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Apply timm's own converter of foreign checkpoints, where the model has one."""
        converter = getattr(sys.modules[type(self.model).__module__], 'checkpoint_filter_fn', None)
        if converter is None:
            return weights
        own = self.model.state_dict()
        # Some converters leave out buffers of timm's own files.
        kept = {k: v for k, v in weights.items() if k in own}
        try:
            return {**kept, **converter(dict(weights), self.model)}
        except Exception as error:
            raise UserError(f"timm can not convert the checkpoint for {type(self.model).__name__} "
                            f'({type(error).__name__}: {error}): give weights of this network'
                            ) from error


@register(MODELS)
class TorchvisionBackbone(Backbone):
    """Any torchvision classification model without its last linear layer.

    Args:
        model_name: as for ``torchvision.models.get_model``.
        weights: name of torchvision's weights, e.g. 'IMAGENET1K_V2' or
            'DEFAULT', which are downloaded.
        checkpoint, match, freeze, skip, norm_eval, pooled: as in
            :class:`TimmBackbone`.
        node: the output, where it is not what the last linear layer (with
            ``pooled``) or the last pooling reads.
        **kwargs: of the model.
    """

    def __init__(self, model_name: str, weights: Optional[str] = None,
                 checkpoint: Optional[str] = None, match: str = 'name',
                 freeze: Sequence[str] = (), skip: Sequence[str] = (), norm_eval: bool = False,
                 pooled: bool = False, node: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__()
        from torchvision import models
        from torchvision.models.feature_extraction import (
            create_feature_extractor,
            get_graph_node_names,
        )
        try:
            network = models.get_model(str(model_name), weights=None, **kwargs)
            if weights:
                checkpoint = models.get_model_weights(model_name)[weights].url
        except (ValueError, KeyError) as error:
            raise UserError(f'TorchvisionBackbone(model_name={model_name!r}, weights={weights!r}):'
                            f' torchvision has none such ({error})') from error
        except TypeError as error:
            raise UserError(f'torchvision does not make {model_name} with {kwargs} ({error})'
                            ) from error
        linear = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)]
        self.classifier = linear[-1] if linear else None
        names = get_graph_node_names(network)[0]
        self.prefix = int(isinstance(network, models.VisionTransformer))
        outputs = {node or self._before_pooling(model_name, names): 'map'}
        self.pooled = pooled and node is None and bool(linear)
        if self.pooled:
            outputs[names[names.index(linear[-1]) - 1]] = 'pooled'
        self.model = create_feature_extractor(network, outputs)
        if self.pooled:
            self.num_features = network.get_submodule(linear[-1]).in_features
        else:
            size = kwargs.get('image_size', 224)
            # No twin on the meta device: torch 2.0 can not copy what the extractor is made of.
            with torch.no_grad():
                x = self.model.eval()(torch.zeros(1, 3, size, size))['map']
            self.model.train()
            self.num_features = x.size(1 if x.dim() == 4 else -1)
        self._prepare(checkpoint, match, freeze, skip, norm_eval)

    def _before_pooling(self, model_name: str, names: Sequence[str]) -> str:
        if self.prefix:
            return 'encoder.ln'
        pools = [i for i, n in enumerate(names)
                 if n.split('.')[-1] in ('avgpool', 'adaptive_avg_pool2d', 'mean')]
        if not pools:
            raise UserError(f'{model_name} has no last pooling: give node=, the name of the '
                            f'output, one of: {", ".join(names[-8:])}')
        return names[pools[-1] - 1]

    def features(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)['map']

    def forward(self, inputs: Tensor) -> Tuple[Tensor]:
        """``(N, 3, H, W)`` to one tensor, see :attr:`pooled`."""
        x = self.model(inputs)['pooled' if self.pooled else 'map']
        return (x[:, self.prefix:] if x.dim() == 3 else x,)


def replace_by_identity(model: nn.Module, names: Sequence[str]) -> None:
    """Take modules out of a network; what reaches them passes through."""
    for name in names:
        owner, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(owner), attribute, nn.Identity())
