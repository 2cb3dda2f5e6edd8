"""Importing this registers the losses, the multi-label pipeline and the hooks in MMDetection's
registries, and adds what an OpenMMLab installation without compiled operators lacks."""

import logging

from asl_det import compat

compat.install()  # before anything imports mmcv.ops

# isort: split
from mmengine.logging import print_log  # noqa: E402

from asl_det import detection, multilabel, training  # noqa: E402, F401
from asl_det.losses import (  # noqa: E402
    AsymmetricLoss,
    AsymmetricLossSingleLabel,
    RoIAsymmetricLoss,
)
from asl_det.registry import MODELS, register  # noqa: E402

for loss in (AsymmetricLoss, AsymmetricLossSingleLabel, RoIAsymmetricLoss):
    register(MODELS)(loss)


class _ToMMEngine(logging.Handler):
    """Writes what the losses log where mmengine writes: the screen and the file of the run."""

    def emit(self, record: logging.LogRecord) -> None:
        print_log(record.getMessage(), 'current', record.levelno)


_losses = logging.getLogger('asl_det.losses')
_losses.addHandler(_ToMMEngine())
_losses.propagate = False
