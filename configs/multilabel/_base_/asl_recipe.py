"""The training recipe of the ASL reference: 40 of 80 one-cycle epochs, Adam, AMP, EMA.

The exponential moving average of the weights is in runtime.py (0.9997, every step).
"""
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40, val_interval=1)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4),
    # Decay on weights, not on biases or anything else of one dimension.
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0, flat_decay_mult=0.0))
param_scheduler = [
    dict(type='OneCycleLR', eta_max=1e-4, total_steps=80, pct_start=0.2, by_epoch=True,
         convert_to_iter_based=True)
]
