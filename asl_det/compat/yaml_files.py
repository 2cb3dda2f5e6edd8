"""Yaml files as data.

mmengine and onedl-mmengine 0.10.x read them with yaml's loader that imports and
calls what a file names (``!!python/object/apply:os.system``). Importing this
module makes mmengine read them with the safe one.
"""

from typing import Any, Dict, TextIO

import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import YamlHandler

MOST = 1_000_000  # values; a config of mmdet has some thousands


class Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
    """yaml's safe loader, and the tuples that mmengine writes into configs."""


Loader.add_constructor('tag:yaml.org,2002:python/tuple',
                       lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


@register_handler(['yaml', 'yml'])
class SafeYamlHandler(YamlHandler):

    def load_from_fileobj(self, file: TextIO, **kwargs: Any) -> Any:
        content = super().load_from_fileobj(file, **{'Loader': Loader, **kwargs})
        if _values(content, {}) > MOST:
            raise ValueError(f'its aliases unfold to more than {MOST:,} values')
        return content


def _values(node: Any, known: Dict[int, int]) -> int:
    """How many values there are after mmengine has copied whatever has several names."""
    if not isinstance(node, (dict, list, tuple)):
        return 1
    if id(node) not in known:
        inside = node.values() if isinstance(node, dict) else node
        known[id(node)] = 1 + sum(_values(value, known) for value in inside)
    return known[id(node)]
