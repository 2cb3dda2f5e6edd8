"""MS-COCO 2014 as multi-label data, 80 classes; images without labels left out as in papers."""
_base_ = ['./dataloaders.py', './pipelines_448.py']

data_root = 'data/coco/'
how_to_get_data = (
    'download COCO 2014 from https://cocodataset.org and unpack it to data/coco with the '
    'folders annotations, train2014 and val2014, or give the folder with --data-root')

train_dataloader = dict(
    dataset=dict(
        type='CocoMultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2014.json',
        data_prefix=dict(img_path='train2014/'),
        keep_empty=False,
        pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(
    dataset=dict(
        type='CocoMultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2014.json',
        data_prefix=dict(img_path='val2014/'),
        keep_empty=False,
        pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
