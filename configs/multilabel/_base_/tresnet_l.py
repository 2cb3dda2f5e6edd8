"""TResNet-L with the loss of the reference's training script."""
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
        # The gradient of the focusing weight is held back.
        loss=dict(
            type='AsymmetricLoss', use_sigmoid=True, gamma_neg=4.0, gamma_pos=0.0, clip=0.05,
            disable_torch_grad_focal_loss=True)))
