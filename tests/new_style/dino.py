"""As mmdet's dino_4scale_r50_8xb2_12e_coco.py of the new style, small."""

from mmcv.transforms import RandomChoice, RandomChoiceResize
from mmcv.transforms.loading import LoadImageFromFile
from mmdet.datasets.transforms import (
    LoadAnnotations,
    PackDetInputs,
    RandomCrop,
    RandomFlip,
    Resize,
)
from mmdet.models import DINO, ChannelMapper, DetDataPreprocessor, DINOHead, ResNet
from mmdet.models.losses.focal_loss import FocalLoss
from mmdet.models.losses.iou_loss import GIoULoss
from mmdet.models.losses.smooth_l1_loss import L1Loss
from mmdet.models.task_modules import BBoxL1Cost, FocalLossCost, HungarianAssigner, IoUCost
from mmengine.config import read_base
from mmengine.model.weight_init import PretrainedInit
from mmengine.optim.optimizer.optimizer_wrapper import OptimWrapper
from mmengine.optim.scheduler.lr_scheduler import MultiStepLR
from mmengine.runner.loops import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.nn import BatchNorm2d, GroupNorm
from torch.optim.adamw import AdamW

with read_base():
    from ._base_.coco import *
    from ._base_.default_runtime import *

model = dict(
    type=DINO, num_queries=20, with_box_refine=True, as_two_stage=True,
    data_preprocessor=dict(
        type=DetDataPreprocessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=1),
    backbone=dict(
        type=ResNet, depth=18, base_channels=8, num_stages=4, out_indices=(1, 2, 3),
        frozen_stages=1, norm_cfg=dict(type=BatchNorm2d, requires_grad=False), norm_eval=True,
        style='pytorch',
        init_cfg=dict(type=PretrainedInit, checkpoint='torchvision://resnet18')),
    neck=dict(type=ChannelMapper, in_channels=[16, 32, 64], kernel_size=1, out_channels=32,
              act_cfg=None, norm_cfg=dict(type=GroupNorm, num_groups=8), num_outs=4),
    encoder=dict(num_layers=1, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32, num_levels=4, dropout=0.0),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=32, ffn_drop=0.0))),
    decoder=dict(num_layers=1, return_intermediate=True, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32, num_heads=8, dropout=0.0),
        cross_attn_cfg=dict(embed_dims=32, num_levels=4, dropout=0.0),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=32, ffn_drop=0.0)),
        post_norm_cfg=None),
    positional_encoding=dict(num_feats=16, normalize=True, offset=0.0, temperature=20),
    bbox_head=dict(
        type=DINOHead, num_classes=2, sync_cls_avg_factor=True, embed_dims=32,
        loss_cls=dict(type=FocalLoss, use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type=L1Loss, loss_weight=5.0),
        loss_iou=dict(type=GIoULoss, loss_weight=2.0)),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0,
                group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=10)),
    train_cfg=dict(assigner=dict(type=HungarianAssigner, match_costs=[
        dict(type=FocalLossCost, weight=2.0),
        dict(type=BBoxL1Cost, weight=5.0, box_format='xywh'),
        dict(type=IoUCost, iou_mode='giou', weight=2.0)])),
    test_cfg=dict(max_per_img=5))

train_pipeline = [
    dict(type=LoadImageFromFile, backend_args=backend_args),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=RandomFlip, prob=0.5),
    dict(type=RandomChoice, transforms=[
        [dict(type=RandomChoiceResize, resize_type=Resize, scales=[(48, 96), (64, 96)],
              keep_ratio=True)],
        [dict(type=RandomChoiceResize, resize_type=Resize, scales=[(60, 200), (80, 200)],
              keep_ratio=True),
         dict(type=RandomCrop, crop_type='absolute_range', crop_size=(38, 60),
              allow_negative_crop=True),
         dict(type=RandomChoiceResize, resize_type=Resize, scales=[(48, 96), (64, 96)],
              keep_ratio=True)]]),
    dict(type=PackDetInputs)]
train_dataloader.update(dataset=dict(filter_cfg=dict(filter_empty_gt=False),
                                     pipeline=train_pipeline))
optim_wrapper = dict(
    type=OptimWrapper, optimizer=dict(type=AdamW, lr=0.0001, weight_decay=0.0001),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))
max_epochs = 12
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
param_scheduler = [dict(type=MultiStepLR, begin=0, end=max_epochs, by_epoch=True, milestones=[11],
                        gamma=0.1)]
auto_scale_lr = dict(base_batch_size=16)
