"""As mmdet's retinanet_r50_fpn_1x_coco.py of the new style, small."""

from itertools import chain

from mmengine.config import read_base

with read_base():
    from ._base_.coco import *
    from ._base_.default_runtime import *
    from ._base_.retinanet_model import *
    from ._base_.schedule import *
    from ._base_.tta import *

from torch.optim.sgd import SGD


def halved(value):
    return value / 2


milestones = list(chain([1], [2]))
optim_wrapper.merge(dict(optimizer=dict(type=SGD, lr=halved(0.002), weight_decay=0.0001)))
