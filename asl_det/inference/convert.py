"""Official checkpoints of ASL and ML-Decoder as checkpoints of our classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor

from asl_det.compat.weights import COUNTER, load_weights, require_checkpoint, weights_of
from asl_det.config.saved import saved_config
from asl_det.errors import UserError
from asl_det.files.identity import hash_file
from asl_det.files.whole import require_output, save_whole
from asl_det.multilabel.thresholds import Thresholds

STEM = 'body.conv1.0.weight'
WIDTHS = {64: 'tresnet_m', 76: 'tresnet_l', 83: 'tresnet_xl'}  # channels of the stem
OPEN_IMAGES = 9605  # classes
THRESHOLD, THRESHOLD_OPEN_IMAGES = 0.7, 0.995  # of the reference's inference


@dataclass
class Converted:
    """What :func:`convert` did.

    Attributes:
        network: the backbone's name in timm.
        head: its kind, with what was read from the shapes.
        classes: names.
        groups: official prefix, ours, and number of weights.
        threshold: that travels with it.
    """

    network: str
    head: str
    classes: Tuple[str, ...]
    groups: List[Tuple[str, str, int]]
    threshold: float


def convert(source: str, out: Union[str, Path], *, classes: Optional[Sequence[str]] = None,
            threshold: Optional[float] = None, image_size: int = 448) -> Converted:
    """Write a checkpoint of :class:`MultiLabelClassifier` from an official one.

    It holds the weights, the config of network and test pipeline (square
    images, resized with Pillow, values in [0, 1]), class names and threshold,
    so that it is enough for ``asl-det infer``.

    Args:
        source: file or URL: ``{'model': state dict, 'num_classes': int,
            'idx_to_class': {...}}`` of TResNet-M, -L or -XL with a linear
            head, a bottleneck head or ML-Decoder; or a state dict alone.
            Loaded by allow-list.
        out: the file to write.
        classes: names, where the file has none.
        threshold: probability from which a class is predicted; by default the
            reference's, 0.7, or 0.995 for the classes of Open Images.
        image_size: side of the input.

    Raises:
        UserError: if it is of another network, weights are missing or left
            over, or class names are missing or of another number.
    """
    require_output(out)
    require_checkpoint(source)
    content = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    weights = weights_of(content, source)
    if any(name.startswith('backbone.') for name in weights):
        raise UserError(f'checkpoint {source} has the names of our classifier already')
    network = _network(weights, source)
    head, told = _head(weights, source)
    count = head['num_classes']
    given = content if content is not weights else {}
    names = _class_names(given, classes, count, source)
    if threshold is None:
        threshold = THRESHOLD_OPEN_IMAGES if count == OPEN_IMAGES else THRESHOLD
    cfg = classifier_config(network, head, image_size)
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    used = {name: value for name, value in weights.items() if not name.endswith(COUNTER)}
    load_weights(model, model.own_names(dict(weights)), source, take='all',
                 hint=f'expected {network} with {told}')
    groups: Dict[Tuple[str, str], int] = {}
    for name in used:
        prefix = 'body.' if name.startswith('body.') else name.partition('.')[0] + '.'
        pair = (prefix, 'backbone.model.body.' if prefix == 'body.' else 'head.')
        groups[pair] = groups.get(pair, 0) + 1
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=names),
                thresholds=Thresholds(threshold).to_dict(),
                converted_from=dict(file=Path(source).name, sha256=hash_file(source)
                                    if Path(source).is_file() else None))
    saved_config(dict(meta=meta), str(out))  # what is written can be read
    save_whole(dict(state_dict=model.state_dict(), meta=meta), out)
    return Converted(network, told, names, [(*pair, n) for pair, n in groups.items()], threshold)


def classifier_config(network: str, head: Dict[str, Any], image_size: int) -> Config:
    """Network and test pipeline of the reference, without data."""
    pipeline = [dict(type='LoadImageWithPillow'),
                dict(type='Resize', scale=(image_size, image_size), keep_ratio=False,
                     backend='pillow'),
                dict(type='PackMultiLabel')]
    return Config(dict(
        default_scope='mmdet',
        custom_imports=dict(imports=['asl_det'], allow_failed_imports=False),
        model=dict(
            type='MultiLabelClassifier',
            data_preprocessor=dict(type='ImgDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255],
                                   bgr_to_rgb=True),
            backbone=dict(type='TimmBackbone', model_name=network),
            head=dict(head, loss=dict(type='AsymmetricLoss', use_sigmoid=True))),
        test_dataloader=dict(dataset=dict(pipeline=pipeline))))


def _network(weights: Dict[str, Tensor], source: str) -> str:
    width = len(weights[STEM]) if STEM in weights else None
    if width not in WIDTHS:
        found = (f'its {STEM} has {width} channels' if width else
                 f'it has no {STEM}, but {", ".join(list(weights)[:4])}')
        raise UserError(f'checkpoint {source} is not of TResNet-M, -L or -XL: {found}. Files of '
                        'other networks are loaded by model.checkpoint of a config')
    return WIDTHS[width]


def _head(weights: Dict[str, Tensor], source: str) -> Tuple[Dict[str, Any], str]:
    """Config of the head without its loss, and its kind in words."""
    def shape(name: str) -> Tuple[int, ...]:
        if name not in weights:
            raise UserError(f'checkpoint {source} lacks {name}, which its head needs')
        return tuple(weights[name].shape)

    decoder = [n for n in weights if n.endswith('decoder.duplicate_pooling')]
    if decoder:
        root = decoder[0].removesuffix('duplicate_pooling')
        groups, width, per_group = shape(decoder[0])
        classes, = shape(f'{root}duplicate_pooling_bias')
        hidden = shape(f'{root}layers.0.linear1.weight')[0]
        if per_group != math.ceil(classes / groups):
            raise UserError(f'checkpoint {source}: {decoder[0]} {(groups, width, per_group)} does '
                            f'not give {classes} classes')
        return (dict(type='MLDecoderHead', num_classes=classes, num_groups=groups,
                     embed_dims=width, feedforward_channels=hidden),
                f'ML-Decoder, {groups} groups of {per_group}')
    if 'head.fc.FC.weight' in weights:
        classes, width = shape('head.fc.FC.weight')
        return (dict(type='LinearHead', num_classes=classes, bottleneck=width),
                f'linear head with bottleneck {width}')
    return dict(type='LinearHead', num_classes=shape('head.fc.weight')[0]), 'linear head'


def _class_names(content: Dict[str, Any], given: Optional[Sequence[str]], count: int,
                 source: str) -> Tuple[str, ...]:
    said, table = content.get('num_classes'), content.get('idx_to_class')
    if said is not None and int(said) != count:
        raise UserError(f'checkpoint {source} says num_classes={said}, but its head has {count}')
    if given is None and table is None:
        raise UserError(f'checkpoint {source} has no idx_to_class: give the names of its {count} '
                        'classes in order with --classes FILE, one a line')
    if given is None:
        try:
            numbered = {int(key): str(name) for key, name in dict(table or {}).items()}
        except (TypeError, ValueError):
            numbered = {}
        if sorted(numbered) != list(range(count)):
            raise UserError(f'checkpoint {source}: idx_to_class does not number its {count} '
                            f'classes from 0 to {count - 1}: give their names with --classes FILE')
        given = [numbered[i] for i in range(count)]
    if len(given) != count or len(set(given)) != count:
        what = f'{len(given)} names' if len(given) != count else 'a name twice'
        raise UserError(f'checkpoint {source} has {count} classes, but there are {what}')
    return tuple(given)
