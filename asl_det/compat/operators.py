"""Lets ``mmcv.ops`` import where mmcv has no compiled operators."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Optional


class _FallbackFinder:
    """Finds ``mmcv._ext`` last, so that a compiled one always wins."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        if name != 'mmcv._ext':
            return None
        return spec_from_file_location(name, Path(__file__).with_name('mmcv_ext.py'))


def install() -> None:
    """Put the fallback behind every other finder of ``sys.meta_path``."""
    if _FallbackFinder not in sys.meta_path:
        sys.meta_path.append(_FallbackFinder)
