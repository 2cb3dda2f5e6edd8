"""NUS-WIDE in the split of the ASL reference, 81 classes."""
_base_ = ['./dataloaders.py', './pipelines_448.py']

data_root = 'data/nus_wide/'
how_to_get_data = (
    'put the images and nus_wid_data.csv of github.com/Alibaba-MIIL/ASL in data/nus_wide, '
    'or give the folder with --data-root')

train_dataloader = dict(
    dataset=dict(
        type='NUSWIDEDataset',
        data_root=data_root,
        ann_file='nus_wid_data.csv',
        split='train',
        pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(
    dataset=dict(
        type='NUSWIDEDataset',
        data_root=data_root,
        ann_file='nus_wid_data.csv',
        split='val',
        pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
