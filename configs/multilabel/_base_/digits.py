"""Small digits canvases (tools/make_digits.py): which digits are on them?"""
data_root = '{{$DATA_ROOT:data/digits_multilabel/}}'
how_to_get_data = 'make it with: python tools/make_digits.py --preset multilabel'

train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='PackMultiLabel')
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='PackMultiLabel')
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoMultiLabelDataset',
        data_root=data_root,
        ann_file='instances_train.json',
        data_prefix=dict(img_path='train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoMultiLabelDataset',
        data_root=data_root,
        ann_file='instances_val.json',
        data_prefix=dict(img_path='val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
