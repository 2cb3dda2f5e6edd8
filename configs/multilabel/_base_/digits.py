"""Small digits canvases (asl-det data digits): which digits are on them?"""
_base_ = './dataloaders.py'

data_root = 'data/digits_multilabel/'
how_to_get_data = 'make it with: asl-det data digits --preset multilabel'

train_pipeline = [
    dict(type='LoadImageWithPillow'),
    dict(type='PackMultiLabel')
]
test_pipeline = [
    dict(type='LoadImageWithPillow'),
    dict(type='PackMultiLabel')
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(
        type='CocoMultiLabelDataset',
        data_root=data_root,
        ann_file='instances_train.json',
        data_prefix=dict(img_path='train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        type='CocoMultiLabelDataset',
        data_root=data_root,
        ann_file='instances_val.json',
        data_prefix=dict(img_path='val/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False, base_batch_size=32)
