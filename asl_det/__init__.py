"""Asymmetric Loss (ASL) for MMDetection.

Importing this package registers the losses, the multi-label pipeline and the
hooks in MMDetection's registries, and adds what an OpenMMLab installation
without compiled operators lacks.
"""

from asl_det.registry import MODELS  # first: says what to install where mmdet is missing

# isort: split
from asl_det import compat

compat.install()

from asl_det import (  # noqa: E402
    detection,
    hooks,
    loops,
    losses,
    multilabel,
    package_weights,
    schedules,
)

__version__ = '0.1.0'
__all__ = ['MODELS', 'detection', 'hooks', 'loops', 'losses', 'multilabel', 'package_weights',
           'schedules']
