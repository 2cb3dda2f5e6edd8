"""FCOS R50-caffe with the asymmetric loss on COCO, 1x schedule.

The focal-loss twin is mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py, box AP 36.6 as published by mmdet.
Box AP of this config: not run here (8 GPUs x 2 images).
    asl-det train asl_det::fcos/fcos_r50-caffe_fpn_gn-head_asl-1x_coco.py
"""
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '../_base_/asl_centerness_heads.py']
custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)

model = dict(bbox_head=dict(loss_cls={{_base_.asl_loss}}))
