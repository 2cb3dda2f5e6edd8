"""What an installed OpenMMLab stack lacks, added without touching its files.

``install`` runs at ``import asl_det`` and steps aside where it is not needed:

- ``mmcv._ext`` (mmcv-lite, or onedl-mmcv from PyPI): a stand-in on top of
  torchvision, only where Python finds no compiled module of that name;
  ``mmcv.utils.ext_loader.check_ops_exist`` goes on answering for those.
  ``ASL_DET_OPERATORS=0`` leaves it out.
- checkpoints (mmengine 0.10.x, onedl-mmengine 0.10.x): loaded by allow-list.
  ``ASL_DET_CHECKPOINTS=0`` leaves mmengine's loading as it is.
- modules of this package that had other names before (asl_det 0.1).
"""

import os

from asl_det.compat import checkpoint, old_names, operators, package_weights  # noqa: F401
from asl_det.compat.checkpoint import UnsafeCheckpointError

__all__ = ['UnsafeCheckpointError', 'install']


def install() -> None:
    """Add what is missing. Safe to call again."""
    old_names.install()
    if os.environ.get('ASL_DET_OPERATORS') != '0':
        operators.install()
    if os.environ.get('ASL_DET_CHECKPOINTS') != '0':
        checkpoint.install()
