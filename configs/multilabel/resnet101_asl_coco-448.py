"""ASL on MS-COCO, ResNet-101, 448 px.

Published: mAP 85.0 (CE 83.3, focal 83.8). Not run here.

    asl-det train asl_det::multilabel/resnet101_asl_coco-448.py
"""
_base_ = './tresnet-l_asl_coco-448.py'

model = dict(
    # torchvision's weights were trained on images of this mean and deviation, not on [0, 1].
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='TorchvisionBackbone',
        model_name='resnet101',
        weights='IMAGENET1K_V1'))
