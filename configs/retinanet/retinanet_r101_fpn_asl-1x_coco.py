"""RetinaNet R101 with the asymmetric loss on COCO, 1x schedule.

The focal-loss twin is mmdet::retinanet/retinanet_r101_fpn_1x_coco.py, box AP 38.5 as published by mmdet.
Box AP of this config: not run here (8 GPUs x 2 images).
    asl-det train asl_det::retinanet/retinanet_r101_fpn_asl-1x_coco.py
"""
_base_ = './retinanet_r50_fpn_asl-1x_coco.py'

model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101')))
