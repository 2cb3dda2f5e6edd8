"""The training recipe of the ASL reference, point by point in docs/recipe.md.

41 of 80 one-cycle epochs, Adam, mixed precision with the loss in float32, EMA.
A value stands once: `optim_wrapper.optimizer.lr` is the maximum of the cycle,
`train_cfg.max_epochs` stretches it, `default_hooks.ema.decay` is of a step.
"""
_base_ = './runtime.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=41, val_interval=1)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    # Adam adds weight_decay * weight to the gradient: 1e-4 fits the gradient of a summed loss.
    optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4),
    # Decay on weights, not on biases or anything else of one dimension.
    paramwise_cfg=dict(bias_decay_mult=0.0, flat_decay_mult=0.0))
param_scheduler = [
    dict(type='OneCycle', run_share=41 / 80, pct_start=0.2, momentum=(0.95, 0.85), by_epoch=False)
]
default_hooks = dict(ema=dict(decay=0.9997))

model = dict(
    type='MultiLabelClassifier',
    # Values in [0, 1].
    data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    head=dict(
        type='LinearHead',
        # Summed over entries, images and processes; the focusing weight is held constant.
        loss=dict(
            type='AsymmetricLoss', use_sigmoid=True, gamma_neg=4.0, gamma_pos=0.0, clip=0.05,
            disable_torch_grad_focal_loss=True, reduction='sum')))
