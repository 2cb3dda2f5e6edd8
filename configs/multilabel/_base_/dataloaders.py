"""Samplers and sizes; a data set and its pipelines come with the file that builds on this."""
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_mode=True))
test_dataloader = val_dataloader
# The learning rates are for this batch, of all GPUs together: asl-det train --auto-scale-lr.
auto_scale_lr = dict(enable=False, base_batch_size=128)
