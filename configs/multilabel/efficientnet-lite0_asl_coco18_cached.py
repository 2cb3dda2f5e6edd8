_base_ = './efficientnet-lite0_asl_coco18.py'

features = '{{$FEATURES:data/coco18_features/}}'
pipeline = [dict(type='LoadFeatures', folder=features), dict(type='PackMultiLabel')]
train_pipeline = [dict(type='LoadFeatures', folder=features, mirror=0.5), dict(type='PackMultiLabel')]

model = dict(
    data_preprocessor=dict(_delete_=True, type='ImgDataPreprocessor'),
    backbone=dict(freeze=(), skip=('conv_stem', 'bn1', 'blocks.0', 'blocks.1', 'blocks.2', 'blocks.3', 'blocks.4')))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
