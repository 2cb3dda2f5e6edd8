"""ASL on NUS-WIDE, TResNet-L, 448 px.

Published: mAP 65.2. Not run here.

    python tools/train.py configs/multilabel/tresnet-l_asl_nus-wide-448.py
"""
_base_ = [
    './_base_/runtime.py',
    './_base_/asl_recipe.py',
    './_base_/nus_wide.py'
]

model = dict(
    type='MultiLabelClassifier',
    threshold=0.7,
    # Values in [0, 1], as TResNet was trained.
    data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    backbone=dict(type='TimmBackbone', model_name='tresnet_l', pretrained=True),
    head=dict(
        type='LinearHead',
        num_classes=81,
        in_channels=2432,
        # The gradient of the focusing weight is held back, as in the reference's script.
        loss=dict(
            type='AsymmetricLoss', use_sigmoid=True, gamma_neg=4.0, gamma_pos=0.0, clip=0.05,
            disable_torch_grad_focal_loss=True)))
