"""Configs of mmengine's new style, whose types are imported classes, as plain data.

In such a config (``with read_base():``) a type is an import that is put off,
and everything that a file or its bases import is a variable beside the keys.
A run's dump and its checkpoints name the same types by dotted paths, of which
mmcv's operators can not be built. Here each gets the name that it has in the
registries, so that both are the same config as the old style's.
"""

import ast
import functools
import importlib.util
import inspect
import types
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Union

import mmengine.registry
from mmdet import registry as mmdet_registries
from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry
from torch import nn

from asl_det.compat.old_names import new_name
from asl_det.errors import UserError
from asl_det.files.nested import INTO, dicts, rebuilt

PACKAGES = ('asl_det', 'mmengine', 'mmcv', *MODULE2PACKAGE)
# mmcv and mmdet look these up themselves, by their bare names or as functions and classes.
OPERATORS = ('nms', 'soft_nms', 'nms_match', 'nms_rotated', 'nms_quadri', 'RoIAlign', 'RoIPool',
             'DeformRoIPoolPack', 'ModulatedDeformRoIPoolPack')
# Keys whose values are types: mmcv and mmengine put them into a dict of their own.
TYPES = ('type', 'resize_type', 'conv_type', 'ema_type')
UNNAMED = nn.Upsample  # its registered names are values of its mode
Lazy = (LazyObject, LazyAttr)


class Registered(NamedTuple):
    """A class or function that OpenMMLab's packages or asl_det register.

    Attributes:
        kind: itself.
        root: the registry of mmengine below which it is, e.g. its MODELS.
        scope: 'mmdet' or 'mmengine'.
        name: its name there; ``BN`` of torch's BatchNorm2d.
        bare: whether the name alone is this one where the scope is mmdet.
    """

    kind: Callable
    root: Registry
    scope: str
    name: str
    bare: bool

    def text(self, scope: str) -> str:
        """How a config with this default scope names it."""
        bare = self.bare if scope == 'mmdet' else self.scope == scope
        return self.name if bare else f'{self.scope}.{self.name}'


def as_data(cfg: Config) -> Config:
    """Name the types of a config by their registered names, in place.

    Imports, modules and functions among its variables are dropped. Classes
    that are not registered, or by others, stay imports. A default scope of
    None, as mmdet's new-style configs have it, becomes mmdet's.

    Returns:
        The config.

    Raises:
        UserError: if something that it imports is not there; with the line.
    """
    tree = cfg._cfg_dict
    dropped = {key for key, value in dict.items(tree) if key in getattr(
        cfg, '_imported_names', ()) or isinstance(value, (types.ModuleType, types.FunctionType))}
    kept = {key: value for key, value in dict.items(tree) if key not in dropped}
    if not dropped and not any(map(_is_foreign, _types(kept))):
        return cfg
    if kept.get('default_scope', '') is None:
        kept['default_scope'] = 'mmdet'
    named = plain_types(kept, kept.get('default_scope', 'mmengine'))
    variables = {key: _named(value, kept.get('default_scope', 'mmengine'))
                 for key, value in named.items() if isinstance(value, Lazy)}
    object.__setattr__(cfg, '_cfg_dict', ConfigDict({**named, **variables}))
    object.__setattr__(cfg, '_imported_names', set())
    return cfg


def plain_types(node: Any, scope: str = 'mmdet') -> Any:
    """A copy of a part of a config, its types named as :func:`as_data` does.

    Args:
        node: dicts and lists of any depth.
        scope: the default scope of the config.
    """
    return rebuilt(node, lambda key, value: _named(value, scope)
                   if key in TYPES and _is_foreign(value) else INTO)


def find_registered(text: str) -> Optional[Registered]:
    """What a dotted path names, if OpenMMLab's packages or asl_det register it; imports nothing.

    ``mmdet.models.RetinaNet`` and ``mmdet.models.detectors.retinanet.RetinaNet``
    are the same.
    """
    path, _, name = text.rpartition('.')
    path = new_name(path) or path
    found = _by_path().get((path.split('.')[0], name))
    return found if found and f'{found.kind.__module__}.'.startswith(f'{path}.') else None


def texts(path: Union[str, Path]) -> str:
    """The source of a new-style config and of its bases."""
    path = Path(path)
    source = path.read_text(encoding='utf-8')
    bases = [node for block in ast.parse(source).body if isinstance(block, ast.With)
             for node in block.body if isinstance(node, ast.ImportFrom)]
    found = [source]
    for base in bases:
        parts = (base.module or '').split('.')
        if base.level:
            folder = path.parents[base.level - 1]
        else:
            spec = importlib.util.find_spec(parts.pop(0))
            folder = Path(spec.origin).parent if spec and spec.origin else path.parent
        file = folder.joinpath(*parts).with_suffix('.py')
        found += [texts(file)] if file.is_file() else []
    return '\n'.join(found)


def _types(node: Any) -> Iterator[Any]:
    """The types in a config, and imports among its variables."""
    for _, part in dicts(node):
        yield from (value for key, value in dict.items(part)
                    if key in TYPES or isinstance(value, Lazy))


def _is_foreign(kind: Any) -> bool:
    """Whether a type is an import, or a path longer than a scope and a name."""
    return kind.count('.') > 1 if isinstance(kind, str) else callable(kind)


def _named(kind: Any, scope: str) -> Any:
    """The registered name of a type; otherwise text as it is, or an import that is put off."""
    if isinstance(kind, Lazy):
        try:
            kind = kind.build()
        except Exception as error:
            raise UserError(f'{kind.location}: {kind.module}.{kind} can not be imported '
                            f'({type(error).__name__}): ' + str(error).splitlines()[0]) from error
    if not isinstance(kind, str) and not (inspect.isclass(kind) or inspect.isroutine(kind)):
        return kind
    text = kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__qualname__}'
    name = text.rpartition('.')[2]
    if text.startswith('mmcv.ops.') and name in OPERATORS:
        return name
    found = find_registered(text)
    if found is not None and (isinstance(kind, str) or kind is found.kind):
        return found.text(scope)
    return kind if isinstance(kind, str) else LazyObject(kind.__module__, kind.__qualname__)


@functools.lru_cache(maxsize=None)
def _by_path() -> Dict[Any, Registered]:
    """(package, name of the class) -> how it is registered."""
    found: Dict[Any, Registered] = {}
    for child in _registries():
        child.import_from_location()
        for registry in filter(None, (child, child.parent)):
            for name, kind in registry.module_dict.items():
                key = (kind.__module__.split('.')[0], kind.__name__)
                if key[0] not in (*PACKAGES, 'torch') or kind is UNNAMED or (
                        key in found and name != kind.__name__):
                    continue  # of others; or another name of the same
                bare = child.module_dict.get(name, kind) is kind
                found[key] = Registered(kind, child.parent or child, registry.scope, name, bare)
    return found


def _registries() -> Iterator[Registry]:
    """mmdet's, and those of mmengine that mmdet has none of its own below."""
    known = [value for module in (mmdet_registries, mmengine.registry)
             for value in vars(module).values() if isinstance(value, Registry)]
    parents = [registry.parent for registry in known]
    return (registry for registry in known if registry not in parents)
