"""When asl_det joins OpenMMLab: just before anything of it is used.

Importing :mod:`asl_det` costs next to nothing, and :mod:`asl_det.losses` needs
torch alone. Whatever OpenMMLab needs to know of this package
(:mod:`asl_det.registered`) is told

- at ``import asl_det``, if mmengine, mmcv or mmdet is imported already: so it
  is for ``custom_imports=['asl_det']`` in a config;
- else as soon as one of them is imported, or a module here that needs them.
"""

import sys
from contextlib import suppress
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Optional

PARTS = ('mmengine', 'mmcv', 'mmdet')
# What is in asl_det and needs none of them. Commands import what they need when they run.
ALONE = ('__main__', 'commands', 'errors', 'losses', 'openmmlab', 'version')


class _Joining(MetaPathFinder, Loader):
    """Finds what needs OpenMMLab, once, to join before it is imported as usual.

    Args:
        missing: a part that is not installed, of which a module here that needs it tells.
    """

    def __init__(self, missing: Optional[str]) -> None:
        self.missing = missing

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        package, _, inside = name.partition('.')
        ours = package == 'asl_det' and inside.split('.')[0] not in ALONE
        if ours or (package in PARTS and not self.missing):
            return ModuleSpec(name, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if self.missing:
            raise ImportError(needs(spec.name, self.missing), name=spec.name)
        with suppress(ValueError):  # another thread was here
            sys.meta_path.remove(self)
        import_module('asl_det.registered')
        module = import_module(spec.name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # importlib has set one of its own


def join() -> None:
    """Join OpenMMLab now, if it is in use, or when it will be."""
    missing = missing_part()
    if missing is None and any(part in sys.modules for part in PARTS):
        import_module('asl_det.registered')
    else:
        sys.meta_path.insert(0, _Joining(missing))


def missing_part() -> Optional[str]:
    """The first part of OpenMMLab that is not installed; None where all are."""
    return next((part for part in PARTS if not _is_there(part)), None)


def needs(what: str, missing: str) -> str:
    """The sentence for who uses ``what`` without a part."""
    return (f'{what} needs MMDetection, but there is no module {missing!r}: install a complete '
            'stack with: pip install "asl-det[openmmlab]"')


def _is_there(name: str) -> bool:
    try:
        return sys.modules.get(name) is not None or find_spec(name) is not None
    except ModuleNotFoundError:
        return False
