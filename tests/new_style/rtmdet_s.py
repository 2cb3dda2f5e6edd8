"""A base of a base, changed by ``merge`` and written over, as mmdet's rtmdet_s does."""

from mmengine.config import read_base

with read_base():
    from .rtmdet_l import *

from mmcv.transforms.loading import LoadImageFromFile
from mmcv.transforms.processing import RandomResize
from mmdet.datasets.transforms.formatting import PackDetInputs
from mmdet.datasets.transforms.loading import LoadAnnotations
from mmdet.datasets.transforms.transforms import RandomFlip, Resize
from mmdet.engine.hooks.pipeline_switch_hook import PipelineSwitchHook
from mmdet.models.layers.ema import ExpMomentumEMA
from mmengine.hooks.ema_hook import EMAHook

model.update(dict(backbone=dict(widen_factor=0.125), bbox_head=dict(exp_on_reg=False)))
train_pipeline = [
    dict(type=LoadImageFromFile, backend_args=backend_args),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=RandomResize, scale=(64, 64), ratio_range=(0.5, 2.0), resize_type=Resize,
         keep_ratio=True),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackDetInputs)]
train_dataloader.update(dict(dataset=dict(pipeline=train_pipeline)))
custom_hooks = [
    dict(type=EMAHook, ema_type=ExpMomentumEMA, momentum=0.0002, update_buffers=True,
         priority=49),
    dict(type=PipelineSwitchHook, switch_epoch=max_epochs - stage2_num_epochs,
         switch_pipeline=train_pipeline_stage2)]
