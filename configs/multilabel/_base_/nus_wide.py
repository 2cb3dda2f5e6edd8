"""NUS-WIDE in the split of the ASL reference, 81 classes."""
_base_ = './pipelines_448.py'

data_root = 'data/nus_wide/'
how_to_get_data = (
    'put the images and nus_wid_data.csv of github.com/Alibaba-MIIL/ASL in data/nus_wide, '
    'or set data_root')

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='NUSWIDEDataset',
        data_root=data_root,
        ann_file='nus_wid_data.csv',
        data_prefix=dict(img_path=''),
        split='train',
        pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='NUSWIDEDataset',
        data_root=data_root,
        ann_file='nus_wid_data.csv',
        data_prefix=dict(img_path=''),
        split='val',
        test_mode=True,
        pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
