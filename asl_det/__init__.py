"""Asymmetric Loss (ASL) for MMDetection.

``asl_det.losses`` needs torch alone. With this package, the losses, the
multi-label pipeline and the hooks are in MMDetection's registries, and what an
OpenMMLab installation without compiled operators lacks is added: before
anything of OpenMMLab is used (:mod:`asl_det.openmmlab`).
"""

from importlib import import_module
from typing import Any

from asl_det import openmmlab
from asl_det.version import __version__

__all__ = ['MODELS', '__version__', 'detection', 'losses', 'multilabel', 'training']

openmmlab.join()


def __getattr__(name: str) -> Any:
    """Rooms of the package, imported when they are asked for, by their old names too."""
    if name == 'MODELS':
        return import_module('asl_det.registry').MODELS
    module = f'asl_det.{name}'
    try:
        if not name.startswith('_'):
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
