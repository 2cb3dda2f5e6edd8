"""Asymmetric Loss (ASL) for MMDetection.

Importing this package registers the losses, the multi-label pipeline and the
hooks in MMDetection's registries, and adds what an OpenMMLab installation
without compiled operators lacks.
"""

from asl_det.registry import MODELS  # first: says what to install where mmdet is missing

# isort: split
from asl_det import compat

compat.install()

from importlib import import_module  # noqa: E402

from asl_det import detection, losses, multilabel, training  # noqa: E402
from asl_det.version import __version__  # noqa: E402

__all__ = ['MODELS', '__version__', 'detection', 'losses', 'multilabel', 'training']


def __getattr__(name: str) -> object:
    """``asl_det.hooks`` and the like, which are elsewhere now."""
    if compat.old_names.new_name(f'asl_det.{name}'):
        return import_module(f'asl_det.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
