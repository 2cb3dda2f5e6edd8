"""Own data in OpenMMLab's json: MS-COCO photos with 18 of its classes, 3,500 and 1,500."""
_base_ = './dataloaders.py'

data_root = 'data/coco18/'
how_to_get_data = 'give the folder of train.json, val.json and images/ with --data-root'
image_size = (224, 224)

train_pipeline = [
    dict(type='LoadImageWithPillow'),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    dict(type='TorchvisionTransform', name='RandomHorizontalFlip'),
    dict(type='TorchvisionTransform', name='RandAugment', num_ops=1, magnitude=7),
    dict(type='TorchvisionTransform', name='RandomErasing', p=0.5, scale=(0.02, 0.2),
         ratio=(1.0, 1.0), value=128),
    dict(type='PackMultiLabel')
]
test_pipeline = [
    dict(type='LoadImageWithPillow'),
    dict(type='Resize', scale=image_size, keep_ratio=False),
    dict(type='PackMultiLabel')
]
train_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        type='MultiLabelDataset',
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img_path='images/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(
        type='MultiLabelDataset',
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img_path='images/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False, base_batch_size=50)
