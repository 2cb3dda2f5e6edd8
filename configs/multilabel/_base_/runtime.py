"""What every multi-label training shares: hooks, logs, evaluation."""
default_scope = 'mmdet'
custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='multilabel/mAP',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='MultiLabelPicturesHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    # A recipe gives its decay, or its horizon in epochs.
    ema=dict(type='RawAndEMAHook'))
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)

val_cfg = dict(type='RawAndEMAValLoop', key='multilabel/mAP')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='MultiLabelMetric')
test_evaluator = val_evaluator
