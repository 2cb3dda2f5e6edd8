"""Lets ``mmcv.ops`` import where mmcv has no compiled operators (mmcv 2.x)."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import Optional

_STAND_IN = Path(__file__).with_name('mmcv_ext.py')


class _FallbackFinder:
    """Finds ``mmcv._ext`` last, so that a compiled one always wins."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        if name != 'mmcv._ext':
            return None
        return spec_from_file_location(name, _STAND_IN)


def _compiled_operators_exist() -> bool:
    """``mmcv.utils.ext_loader.check_ops_exist``, which would count the stand-in."""
    spec = find_spec('mmcv._ext')
    return spec is not None and spec.origin != str(_STAND_IN)


def install() -> None:
    """Put the fallback behind every other finder of ``sys.meta_path``."""
    if _FallbackFinder not in sys.meta_path:
        sys.meta_path.append(_FallbackFinder)
    from mmcv.utils import ext_loader
    ext_loader.check_ops_exist = _compiled_operators_exist
