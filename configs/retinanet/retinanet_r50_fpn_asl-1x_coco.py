"""RetinaNet R50 with the asymmetric loss on COCO, 1x schedule.

The focal-loss twin is mmdet::retinanet/retinanet_r50_fpn_1x_coco.py, box AP 36.5 as published by mmdet.
Box AP of this config: not run here (8 GPUs x 2 images).
    asl-det train asl_det::retinanet/retinanet_r50_fpn_asl-1x_coco.py
"""
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/asl_heads.py']
custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)

model = dict(bbox_head=dict(loss_cls={{_base_.asl_loss}}))
