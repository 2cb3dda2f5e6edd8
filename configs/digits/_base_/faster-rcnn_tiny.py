"""Faster R-CNN on a ResNet-18 of quarter width, from scratch, for 160 px canvases."""
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    data_preprocessor=dict(mean=[80.0] * 3, std=[50.0] * 3),
    backbone=dict(
        depth=18, base_channels=16, frozen_stages=-1, norm_eval=False, init_cfg=None),
    # Two levels of stride 8 and 16 carry anchors from 16 to 72 px.
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=64, start_level=1, end_level=2, num_outs=2),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[2, 3, 4.5], ratios=[1.0, 2.0], strides=[8, 16])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[8, 16], finest_scale=28),
        bbox_head=dict(in_channels=64, fc_out_channels=128, num_classes=10)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=200),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=200),
        # A place holds one digit, so boxes of other classes are suppressed too.
        rcnn=dict(nms=dict(class_agnostic=True), max_per_img=30)))
