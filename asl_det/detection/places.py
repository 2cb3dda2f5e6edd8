"""Where a config has classification losses, and which heads predict by softmax or by sigmoid."""

import inspect
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mmengine.config import ConfigDict

from asl_det.config.signatures import arguments, mentions
from asl_det.files.nested import dicts
from asl_det.registry import MODELS, class_of, type_name

SOFT_LOSSES = ('QualityFocalLoss', 'VarifocalLoss')
# Heads, by a class in their ancestry, whose scores are a class times another branch.
CENTERNESS_HEADS = {'FCOSHead', 'ATSSHead', 'DDODHead'}
# Heads, by a class in their ancestry, that no loss of another kind fits.
REFUSED = {
    'AutoAssignHead': 'the head computes its own loss',
    'FreeAnchorRetinaHead': 'the head computes its own loss',
    'YOLACTHead': 'the head computes its own loss',
    'SABLHead': 'the head is built for softmax and does not ask the loss',
    'DoubleConvFCBBoxHead': 'the head is built for softmax and does not ask the loss',
    'MultiInstanceBBoxHead': 'the head takes one loss for a pair of proposals',
}


class Place(NamedTuple):
    """A loss in a model's config.

    Attributes:
        path: dotted keys from the model on, e.g. ``bbox_head.loss_cls``.
        head: the dict that has it.
        key: its key there.
        loss: its config; of the head's default where the config has none.
        kind: kind of head (:data:`asl_det.detection.KINDS`), None where it
            does not qualify.
        why: why it does not.
    """

    path: str
    head: Dict[str, Any]
    key: str
    loss: Dict[str, Any]
    kind: Optional[str]
    why: str


def find_losses(model: Dict[str, Any]) -> List[Place]:
    """All losses of a model's config, with the kinds of their heads."""
    import mmdet.models  # noqa: F401  registers the heads

    return [Place(path, head, key, loss, *_kind(path, head, key, loss))
            for path, head, key, loss in _walk(model)]


def ancestry(node: Dict[str, Any]) -> Tuple[str, ...]:
    """Names of the class of a config and of those it is derived from."""
    return bases(class_of(MODELS, node.get('type')))


def takes_sigmoid(loss: Dict[str, Any]) -> bool:
    """Whether a loss is one of independent classes; the default of its class if it does not say."""
    if 'use_sigmoid' in loss:
        return bool(loss['use_sigmoid'])
    found = class_of(MODELS, loss['type'])
    if found is None:
        return False
    return getattr(arguments(found)[0].get('use_sigmoid'), 'default', None) is True


def _walk(model: Dict[str, Any]) -> Iterator[Tuple[str, Dict[str, Any], str, Dict[str, Any]]]:
    losses: List[int] = []  # nothing inside them is one
    for path, node in dicts(model, enter=lambda node: id(node) not in losses):
        if id(node) in losses:
            continue
        if 'type' in node and 'loss_cls' not in node:
            default = _default_loss(node)
            if default is not None:
                yield _join(path, 'loss_cls'), node, 'loss_cls', default
        for key, value in node.items():
            if isinstance(value, dict) and 'loss' in str(key) and 'type' in value:
                losses.append(id(value))
                yield _join(path, key), node, key, value


def _default_loss(head: Dict[str, Any]) -> Optional[ConfigDict]:
    """The classification loss that a head takes where its config names none."""
    kind = class_of(MODELS, head['type'])
    parameter = arguments(kind)[0].get('loss_cls') if isinstance(kind, type) else None
    default = getattr(parameter, 'default', None)
    return ConfigDict(default) if isinstance(default, dict) else None


def _kind(path: str, head: Dict[str, Any], key: str,
          loss: Dict[str, Any]) -> Tuple[Optional[str], str]:
    """Kind of the head, and the reason where there is none."""
    names = ancestry(head)
    if path.startswith('teacher_'):
        return None, 'of a teacher, which does not learn'
    if head.get('with_cls') is False:
        return None, 'the head predicts no classes'
    if key == 'loss':  # of a classifier of images
        return 'multilabel', ''
    if not str(key).endswith('loss_cls'):
        return None, 'no loss of classes'
    for name, why in REFUSED.items():
        if name in names:
            return None, why
    name = type_name(loss)
    if name in SOFT_LOSSES:
        return 'soft', ''
    if name == 'GaussianFocalLoss':
        return None, 'its targets are maps of centres'
    if 'rpn_head' in path.split('.'):
        return ('rpn', '') if takes_sigmoid(loss) else (None, 'softmax')
    if 'BBoxHead' in names and 'DIIHead' not in names:
        return 'roi', ''
    if not takes_sigmoid(loss):
        return None, 'softmax over the classes and background'
    if {'DETRHead', 'DIIHead'} & set(names):
        return 'detr', ''
    # TOODHead is an ATSSHead that rates boxes by their class alone.
    rated = CENTERNESS_HEADS & set(names) and 'TOODHead' not in names
    return ('centerness' if rated else 'dense'), ''


def is_softmax_head(kind: Any) -> bool:
    """mmdet's heads of regions that have C + 1 channels whatever the loss says."""
    return 'BBoxHead' in bases(kind) and not mentions(kind, r'loss_cls\.use_sigmoid') \
        and 'SABLHead' not in bases(kind)


def is_sigmoid_place(kind: Any, key: str) -> bool:
    """Whether a class takes the sigmoid of what the loss under a key gets, whatever the loss."""
    names = bases(kind)
    if key in ('loss_centerness', 'loss_obj', 'loss_conf', 'loss_iou'):
        return True
    if 'MultiLabelClassifier' in names or ('Head' in names and 'num_classes' in
                                           arguments(kind)[0] and key == 'loss'):
        return True
    return key == 'loss_cls' and bool({'YOLOXHead', 'YOLOV3Head'} & set(names))


def bases(kind: Any) -> Tuple[str, ...]:
    """Names of a class and of those it is derived from."""
    return tuple(c.__name__ for c in inspect.getmro(kind)) if inspect.isclass(kind) else ()


def _join(path: str, key: str) -> str:
    return f'{path}.{key}' if path else str(key)
