"""Where things stand in a config."""

import os
from typing import Any, Dict, Iterator, List, Tuple


def path_of(dataset: Dict[str, Any], path: str) -> str:
    """A path of a data set's config, below its ``data_root``."""
    return path if '://' in path else os.path.join(dataset.get('data_root') or '', path)


def open_wrappers(place: str, node: Any) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The data sets inside RepeatDataset, ConcatDataset and the like, at any depth."""
    for where, dataset in _items(place, node):
        inner = wrapped(dataset)
        if not inner:
            yield where, dataset
        for key in inner:
            yield from open_wrappers(f'{where}.{key}', dataset[key])


def wrapped(dataset: Dict[str, Any]) -> List[str]:
    """Under which keys a data set holds others; none, if it is no wrapper."""
    return [key for key in ('dataset', 'datasets')
            if isinstance(dataset.get(key), (dict, list, tuple))]


def _items(place: str, node: Any) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """The dicts of a dict or a list of dicts."""
    if isinstance(node, dict):
        yield place, node
    elif isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _items(f'{place}.{i}', item)


def value_at(cfg: Any, key: str) -> Any:
    """The value of a dotted key, None where there is none."""
    for name in key.split('.'):
        if isinstance(cfg, (list, tuple)) and name.isdigit() and int(name) < len(cfg):
            cfg = cfg[int(name)]
        else:
            cfg = cfg.get(name) if hasattr(cfg, 'get') else None
    return cfg
