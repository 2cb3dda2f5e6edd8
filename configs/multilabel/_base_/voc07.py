"""Pascal VOC 2007, 20 classes."""
_base_ = ['./dataloaders.py', './pipelines_448.py']

data_root = 'data/VOCdevkit/VOC2007/'
how_to_get_data = (
    'download VOC 2007 (trainval and test) from http://host.robots.ox.ac.uk/pascal/VOC and '
    'unpack it to data, or give the folder with --data-root')

train_dataloader = dict(
    dataset=dict(
        type='VOCMultiLabelDataset',
        data_root=data_root,
        ann_file='ImageSets/Main/trainval.txt',
        pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(
    dataset=dict(
        type='VOCMultiLabelDataset',
        data_root=data_root,
        ann_file='ImageSets/Main/test.txt',
        pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
