"""Importing this registers the losses, the multi-label pipeline and the hooks in MMDetection's
registries, and adds what an OpenMMLab installation without compiled operators lacks."""

import logging
from importlib import import_module

from asl_det import compat

compat.install()  # before anything imports mmcv.ops

# isort: split
import mmdet.registry  # noqa: E402
from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402
from mmengine.logging import print_log  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

from asl_det import detection, multilabel, training  # noqa: E402, F401
from asl_det.losses import (  # noqa: E402
    AsymmetricLoss,
    AsymmetricLossSingleLabel,
    RoIAsymmetricLoss,
)
from asl_det.registry import MODELS, register  # noqa: E402

for loss in (AsymmetricLoss, AsymmetricLossSingleLabel, RoIAsymmetricLoss):
    register(MODELS)(loss)

# Imported with mmdet's own, when the first visualizer is asked for: it brings matplotlib.
mmdet.registry.VISUALIZERS._locations.append('asl_det.analysis.visualizer')
if mmdet.registry.VISUALIZERS._imported:
    import_module('asl_det.analysis.visualizer')

# asl_det::folder/name.py: mmengine looks for asl_det/config/.mim/configs/folder/name.py, and what a
# _base_ of that name holds it builds in a scope of that name, where everything of mmdet's is found.
MODULE2PACKAGE['asl_det'] = 'asl_det.config'
for registry in [r for r in vars(mmdet.registry).values() if isinstance(r, Registry)]:
    own = Registry(registry.name, parent=registry, scope='asl_det', locations=registry._locations)
    own._imported = not registry._locations  # or mmengine warns that asl_det is not installed


class _ToMMEngine(logging.Handler):
    """Writes what the losses log where mmengine writes: the screen and the file of the run."""

    def emit(self, record: logging.LogRecord) -> None:
        print_log(record.getMessage(), 'current', record.levelno)


_losses = logging.getLogger('asl_det.losses')
_losses.addHandler(_ToMMEngine())
_losses.propagate = False
