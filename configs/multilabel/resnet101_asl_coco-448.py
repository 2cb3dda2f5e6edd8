"""ASL on MS-COCO, ResNet-101, 448 px.

Published: mAP 85.0 (CE 83.3, focal 83.8). Not run here.

    python tools/train.py configs/multilabel/resnet101_asl_coco-448.py
"""
_base_ = [
    './_base_/runtime.py',
    './_base_/asl_recipe.py',
    './_base_/coco.py'
]

model = dict(
    type='MultiLabelClassifier',
    threshold=0.7,
    data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        type='TorchvisionBackbone', model_name='resnet101', weights='IMAGENET1K_V1'),
    head=dict(
        type='LinearHead',
        num_classes=80,
        in_channels=2048,
        # The gradient of the focusing weight is held back, as in the reference's script.
        loss=dict(
            type='AsymmetricLoss', use_sigmoid=True, gamma_neg=4.0, gamma_pos=0.0, clip=0.05,
            disable_torch_grad_focal_loss=True)))
