"""ASL on MS-COCO, TResNet-L, 448 px.

Published: mAP 86.6 (CE 84.0, focal 85.1), CF1 81.4, OF1 of OP 88.2 and OR 79.2. Not run here.

    python tools/train.py configs/multilabel/tresnet-l_asl_coco-448.py
"""
_base_ = [
    './_base_/runtime.py',
    './_base_/asl_recipe.py',
    './_base_/coco.py'
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
        num_classes=80,
        in_channels=2432,
        # The gradient of the focusing weight is held back, as in the reference's script.
        loss=dict(
            type='AsymmetricLoss', use_sigmoid=True, gamma_neg=4.0, gamma_pos=0.0, clip=0.05,
            disable_torch_grad_focal_loss=True)))
