"""Open Images, verified image-level labels, 9,605 trainable classes.

Of an image 10 to 50 labels are verified. In training the others are ignored, or taken as absent with
``train_dataloader.dataset.unverified=negative`` (the authors' later work with TResNet-M: 85.38 and
85.85 mAP). In evaluation they are ignored.
"""
_base_ = ['./dataloaders.py', './pipelines_448.py']

data_root = 'data/open_images/'
how_to_get_data = (
    'download Open Images from https://storage.googleapis.com/openimages/web and put images '
    '(train/, test/), label csv files and class lists in data/open_images, or give the folder with --data-root')

classes = dict(
    trainable_classes='classes-trainable.txt', class_descriptions='class-descriptions.csv')
train_dataloader = dict(
    dataset=dict(
        type='OpenImagesMultiLabelDataset',
        data_root=data_root,
        ann_file='train-annotations-human-imagelabels.csv',
        data_prefix=dict(img_path='train/'),
        **classes,
        unverified='unknown',
        keep_empty=False,
        pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(
    dataset=dict(
        type='OpenImagesMultiLabelDataset',
        data_root=data_root,
        ann_file='test-annotations-human-imagelabels.csv',
        data_prefix=dict(img_path='test/'),
        **classes,
        keep_empty=False,
        pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
