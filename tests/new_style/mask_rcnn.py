"""As mmdet's mask_rcnn_r50_fpn_1x_coco.py of the new style, small."""

from mmengine.config import read_base

with read_base():
    from ._base_.coco import *
    from ._base_.default_runtime import *
    from ._base_.mask_rcnn_model import *
    from ._base_.schedule import *

from mmdet.datasets.transforms.loading import LoadAnnotations

train_dataloader['dataset']['pipeline'][1] = dict(
    type=LoadAnnotations, with_bbox=True, with_mask=True)
test_dataloader['dataset']['pipeline'][2] = dict(
    type=LoadAnnotations, with_bbox=True, with_mask=True)
val_evaluator.update(dict(metric=['bbox', 'segm']))
test_evaluator = val_evaluator
