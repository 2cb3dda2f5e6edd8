custom_hooks = [
    dict(type='mmdet.EpochSeedHook'),
    dict(step=6, type='mmdet.Interrupt', what='raise_signal'),
]
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'interrupted',
    ])
default_hooks = dict(
    adaptive_gamma=dict(type='mmdet.AdaptiveGammaHook'),
    checkpoint=dict(
        by_epoch=True,
        filename_tmpl='epoch_{}.pth',
        interval=1,
        max_keep_ckpts=1,
        rule='greater',
        save_best='score',
        type='mmdet.SafeCheckpointHook'),
    logger=dict(interval=1, type='mmdet.SafeLoggerHook'))
default_scope = 'mmengine'
experiment_name = 'fa23a1c0-399b-495e-9400-e740c7a48968'
launcher = 'none'
load_from = None
model = dict(type='mmdet.NoisyModelWithAdaptiveASL')
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=0.9, type='SGD'))
param_scheduler = [
    dict(by_epoch=False, end=8, eta_min=0.01, type='PolyLR'),
]
randomness = dict(seed=0)
resume = False
train_cfg = dict(max_epochs=2, type='mmdet.ResumableEpochLoop')
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type='mmdet.NoisyData'),
    num_workers=0,
    sampler=dict(shuffle=True, type='DefaultSampler'))
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=2,
    dataset=dict(type='mmdet.NoisyData'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(type='mmdet.WeightSum')
work_dir = 'stopped'
