"""What a network needs to run on pictures: config, weights, class names, thresholds."""

import copy
import os
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from asl_det.analysis.palette import palette_of
from asl_det.compat.weights import load_weights, require_checkpoint, weights_of
from asl_det.config.saved import saved_config
from asl_det.config.walk import is_pretrained
from asl_det.detection.operating_point import Chosen, choose_thresholds
from asl_det.engine import load_config
from asl_det.errors import UserError
from asl_det.files.nested import INTO, OUT, rebuilt
from asl_det.inference.pipeline import InferencePipeline
from asl_det.multilabel.thresholds import Thresholds
from asl_det.registry import DATASETS, class_of

ConfigLike = Union[str, os.PathLike, Config, Dict[str, Any]]


@dataclass
class Opened:
    """The content of a checkpoint, and the config that it belongs to.

    Attributes:
        cfg: without anything that would fetch weights.
        weights: state dict.
        metainfo: of the data set it was trained on: ``classes``, names in the
            order of the outputs, and ``palette``, their colours.
        meta: of the checkpoint.
        source: name of the checkpoint.
        partial: weights that it lacks are those which the config names.
    """

    cfg: Config
    weights: Dict[str, Tensor]
    metainfo: Dict[str, Any]
    meta: Dict[str, Any]
    source: str
    partial: bool = False

    @property
    def classes(self) -> Tuple[str, ...]:
        return self.metainfo['classes']

    def choose(self, asked: Union[Thresholds, float, None] = None) -> Chosen:
        """Thresholds that are asked for, or the network's own, and where they come from."""
        return choose_thresholds(asked, self.cfg.model, self.classes, self.meta, self.source)

    def build(self, device: str) -> nn.Module:
        """The network with these weights, in evaluation mode.

        Raises:
            UserError: if the weights are not those of the config.
        """
        model = MODELS.build(self.cfg.model)
        weights = self.weights
        if hasattr(model, 'own_names'):
            weights = model.own_names(weights)
        load_weights(model, weights, self.source, take='any' if self.partial else 'all',
                     hint='give the config that it was trained with')
        model.cfg, model.dataset_meta = self.cfg, self.metainfo
        return model.to(device).eval()


def open_checkpoint(config: Optional[ConfigLike], checkpoint: str,
                    partial: bool = False) -> Opened:
    """Read a checkpoint by allow-list, and its config.

    Args:
        config: a file, ``mmdet::folder/name.py``, or a config. None for the
            one in the checkpoint, of which nothing is executed.
        checkpoint: file or URL.
        partial: it may lack weights, of frozen stages whose features were
            cached; the config says where they come from.

    Raises:
        UserError: if one of them is missing, or does not say what is needed.
    """
    checkpoint = os.fspath(checkpoint)
    require_checkpoint(checkpoint)
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    init_default_scope('mmdet')
    if config is None:
        cfg = saved_config(content, checkpoint)
    elif isinstance(config, (str, os.PathLike)):
        cfg = load_config(os.fspath(config))
    else:
        cfg = copy.deepcopy(config) if isinstance(config, Config) else Config(dict(config))
    if not isinstance(cfg.get('model'), dict):
        raise UserError('the config has no model: give the config of a network')
    if partial and config is None:
        raise UserError('a checkpoint that lacks weights needs the config that names them: '
                        'asl-det infer CONFIG CHECKPOINT ... --partial')
    if not partial:
        # Nor initial values: all come from the checkpoint.
        cfg.model = rebuilt(cfg.model, lambda key, value: OUT if key == 'init_cfg' or
                            is_pretrained(key, value) else INTO)
    meta = content.get('meta') if isinstance(content, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    return Opened(cfg, weights_of(content, checkpoint), _metainfo(meta, cfg, checkpoint), meta,
                  checkpoint, partial)


def _metainfo(meta: Dict[str, Any], cfg: Config, source: str) -> Dict[str, Any]:
    """What the checkpoint says about its classes, or else the data set of the config."""
    saved = meta.get('dataset_meta')
    found = {k.lower(): v for k, v in saved.items()} if isinstance(saved, dict) else {}
    if not found and meta.get('CLASSES'):  # of mmdet 2
        found = dict(classes=meta['CLASSES'])
    for node in (cfg.get('test_dataloader'), cfg.get('train_dataloader')):
        dataset = (node or {}).get('dataset') or {}
        kind = class_of(DATASETS, dataset.get('type'))
        if not found.get('classes'):
            found = {**(getattr(kind, 'METAINFO', None) or {}), **(dataset.get('metainfo') or {})}
    classes = found.get('classes')
    if not isinstance(classes, (list, tuple)) or not all(isinstance(c, str) for c in classes):
        raise UserError(f'the class names of checkpoint {source} are not known: write '
                        'metainfo=dict(classes=[...]) in test_dataloader.dataset of the config, or '
                        'convert official files with asl-det convert')
    return dict(classes=tuple(classes), palette=palette_of(found))


class FromCheckpoint:
    """How the inferencers come to their network; stands before mmengine's in their bases."""

    def _open(self, model: Union[ConfigLike, Opened, None], weights: Optional[str],
              thresholds: Union[Thresholds, float, None]) -> None:
        if isinstance(model, Opened):
            self.opened = model
        elif weights is None:
            raise UserError(f'{type(self).__name__} needs a checkpoint: give weights=')
        else:
            self.opened = open_checkpoint(model, weights)
        self.classes = self.opened.classes
        self.thresholds, self.why = self.opened.choose(thresholds)

    def _init_pipeline(self, cfg: Config) -> InferencePipeline:
        return InferencePipeline(cfg)

    def _init_collate(self, cfg: Config) -> Any:
        return pseudo_collate
