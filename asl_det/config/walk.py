"""What stands where in a config: data sets inside wrappers, weights that a network loads."""

import copy
import os
from typing import Any, Dict, Iterator, List, Tuple

from asl_det.files.nested import INTO, OUT, dicts, rebuilt
from asl_det.registry import is_type

SPLITS = ('train', 'val', 'test')
# Arguments of networks that name weights.
WEIGHTS = ('checkpoint', 'pretrained', 'weights', 'checkpoint_path')
WEIGHTS_OF_TIMM = ('pretrained_cfg', 'pretrained_cfg_overlay')


def path_of(dataset: Dict[str, Any], path: str) -> str:
    """A path of a data set's config, below its ``data_root``."""
    return path if '://' in path else os.path.join(dataset.get('data_root') or '', path)


def open_wrappers(place: str, node: Any) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The data sets inside RepeatDataset, ConcatDataset and the like, at any depth."""
    for where, dataset in outermost(node, place):
        inner = wrapped(dataset)
        if not inner:
            yield where, dataset
        for key in inner:
            yield from open_wrappers(f'{where}.{key}', dataset[key])


def wrapped(dataset: Dict[str, Any]) -> List[str]:
    """Under which keys a data set holds others; none, if it is no wrapper."""
    return [key for key in ('dataset', 'datasets')
            if isinstance(dataset.get(key), (dict, list, tuple))]


def outermost(node: Any, place: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """A dict, or those of a list of dicts, with their dotted keys."""
    return dicts(node, place, lambda part: not isinstance(part, dict))


def without_weights(node: Any) -> Any:
    """A copy of a config of a network that loads no checkpoint."""
    return copy.deepcopy(rebuilt(node, lambda key, value: OUT if is_pretrained(key, value)
                                 else INTO))


def is_pretrained(key: Any, value: Any) -> bool:
    """Whether a key of a network's config names weights that it loads."""
    if key == 'init_cfg':
        return is_type(value, 'Pretrained', 'PretrainedInit')
    # torchvision's weights are a name, timm's may be a dict.
    return key in WEIGHTS and isinstance(value, (str, bool)) or key in WEIGHTS_OF_TIMM
