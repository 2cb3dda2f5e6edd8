"""The number of classes of the data and of the heads: checked, and set from the data."""

import inspect
import json
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from asl_det.config.signatures import arguments
from asl_det.config.walk import path_of
from asl_det.errors import UserError
from asl_det.files.nested import value_at
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.preflight.finding import Finding
from asl_det.preflight.parts import parts
from asl_det.preflight.run import Run
from asl_det.registry import DATASETS, MODELS, is_type, lookup, type_name

# Heads whose channels are not the classes of the data: proposals, maps of stuff, identities.
OTHERS = {'RPNHead', 'GARPNHead', 'CascadeRPNHead', 'StageCascadeRPNHead', 'FusedSemanticHead',
          'BaseSemanticHead', 'LinearReIDHead', 'ATSSVLFusionHead', 'GroundingDINOHead',
          'RTMDetWithMaskFeatHead', 'YOLACTProtonet', 'YOLACTSegmHead', 'Mask2FormerTrackHead'}
AUTO = 'auto'


def check_classes(run: Run) -> Iterator[Finding]:
    """Every head has as many classes as every data set."""
    heads = class_heads(run)
    for place, dataset in run.splits():
        names = class_names(run, place, dataset)
        if not names or isinstance(names, str):
            continue
        things = _thing_classes(run, place, dataset) or names
        wrong: Dict[Any, List[str]] = {}
        for key, value in heads:
            expected = things if 'roi_head' in key or 'things' in key else names
            if isinstance(value, int) and value != len(expected):
                wrong.setdefault((value, len(expected)), []).append(key)
        for (value, number), keys in wrong.items():
            source = _whose(dataset, names)
            settings = ' '.join(f'{key}={number}' for key in keys)
            yield Finding('number of classes', f'{run.config}: {keys[0]}',
                          f'{value}, but the data set of {place} has {number} classes '
                          f'({shorten(names, 6)}){source}: --num-classes auto, or --cfg-options '
                          + settings)


def class_heads(run: Run) -> List[Tuple[str, Any]]:
    """Dotted key and value of the number of classes of every head; None where it has none."""
    found = []
    for part in parts(run):
        name = next(p for p in reversed(part.place.split('.')) if not p.isdigit())
        if part.registry is not MODELS or not inspect.isclass(part.kind) \
                or not name.endswith('head') or name in ('rpn_head', 'semantic_head') \
                or OTHERS & {c.__name__ for c in inspect.getmro(part.kind)}:
            continue
        known = arguments(part.kind)[0]
        for key in ('num_classes', 'num_things_classes'):
            # With stuff beside the things the classes of the data set are both.
            if key in known and not part.node.get('num_stuff_classes'):
                found.append((f'{part.place}.{key}', part.node.get(key)))
    return found


def class_names(run: Run, place: str, dataset: Dict[str, Any]) -> Optional[Sequence[str]]:
    """The classes of a data set: of its config, its type or its file; None if not known."""
    for lazy in (True, False):
        data = run.load(place, dataset, lazy)
        names = getattr(data, 'metainfo', {}).get('classes') if data is not None else None
        if names is not None:
            return names
    return None


def set_num_classes(cfg: Config, config: str, purpose: str, asked: Optional[str]) -> List[str]:
    """Set the number of classes of the heads in a config, in place.

    Args:
        cfg: where ``num_classes`` is missing or ``'auto'`` it is set always.
        config: its name, for messages.
        purpose: whose data counts, see :class:`Run`.
        asked: 'auto' sets every head from the data, and gives a
            ``CocoDataset`` without class names those of its file; a number
            sets every head to it; None leaves other values alone.

    Returns:
        What was set, in words.

    Raises:
        UserError: if ``asked`` is neither, or the data does not tell.
    """
    run = Run(cfg, config, purpose)
    number = _asked(asked)
    heads = [(key, value) for key, value in class_heads(run)
             if asked is not None or value in (None, AUTO)]
    if not heads:
        if asked is not None:
            raise UserError(f'--num-classes {asked}: the config has no head with num_classes')
        return []
    said = []
    if number is None:
        if asked == AUTO:
            said += _name_classes(cfg, run)
        place, names = _first_known(run)
        if names is None:
            missing = [key for key, value in heads if value == AUTO or asked == AUTO]
            if missing:
                raise UserError(f'{config}: {missing[0]}=auto: the class names of the data sets '
                                'are not known: give the number, or metainfo=dict(classes=...)')
            return []
        number, source = len(names), f'from {place} ({shorten(names, 6)})'
    else:
        source = 'as --num-classes says'
    for key, value in heads:
        if value == number:
            continue
        head = value_at(cfg, key.rpartition('.')[0])
        head[key.rpartition('.')[2]] = number
        _fit_weights(head, value, number)
        said.append(f'{key}={number}, {source}')
    return said


def _asked(text: Optional[str]) -> Optional[int]:
    if text in (None, AUTO):
        return None
    if not str(text).isdecimal() or int(text) < 1:
        raise UserError(f"--num-classes {text}: expected 'auto' or a whole number of at least 1")
    return int(text)


def _first_known(run: Run) -> Tuple[str, Optional[Sequence[str]]]:
    for place, dataset in run.splits():
        names = class_names(run, place, dataset)
        if names and not isinstance(names, str):
            return place, names
    return '', None


def _name_classes(cfg: Config, run: Run) -> List[str]:
    """Give CocoDatasets without class names those of the first one's file."""
    nameless = [(place, dataset) for place, dataset in run.splits()
                if is_type(dataset, 'CocoDataset')
                and not (dataset.get('metainfo') or {}).get('classes')]
    if not nameless:
        return []
    place, dataset = nameless[0]
    path = path_of(dataset, dataset.get('ann_file', ''))
    try:
        with open(path, encoding='utf-8') as file:
            names = [str(c['name']) for c in json.load(file)['categories']]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the checks of the data say what is wrong with it
    default = class_names(run, place, dataset)
    if set(names) == set(default or ()):
        return []
    for split in ('train', 'val', 'test'):
        for _, node in run.data_sets(split):
            if is_type(node, 'CocoDataset'):
                node.metainfo = dict(node.get('metainfo') or {}, classes=tuple(names))
    run.forget()
    return [f'metainfo.classes of the data sets: the {len(names)} of {path} '
            f'({shorten(names, 6)})']


def _whose(dataset: Dict[str, Any], names: Sequence[str]) -> str:
    """A word on class names that nobody chose."""
    kind = lookup(DATASETS, dataset)
    own = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    if (dataset.get('metainfo') or {}).get('classes') or own is None or len(own) != len(names):
        return ''
    return f', those of {type_name(dataset)} itself, as it has no metainfo=dict(classes=)'


def _thing_classes(run: Run, place: str, dataset: Dict[str, Any]) -> Optional[Sequence[str]]:
    data = run.load(place, dataset, lazy=True)
    return getattr(data, 'metainfo', {}).get('thing_classes') if data is not None else None


def _fit_weights(head: Dict[str, Any], old: Union[int, str, None], new: int) -> None:
    """Weights of classes that are all the same, with or without a last one of the background."""
    loss = head.get('loss_cls')
    weights = loss.get('class_weight') if isinstance(loss, dict) else None
    if isinstance(weights, (list, tuple)) and isinstance(old, int) \
            and len(weights) in (old, old + 1) and len(set(weights[:old])) == 1:
        loss['class_weight'] = [weights[0]] * new + list(weights[old:])

