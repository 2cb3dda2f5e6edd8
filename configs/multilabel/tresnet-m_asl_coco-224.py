"""ASL on MS-COCO, TResNet-M, 224 px.

Published: mAP 81.8. Not run here.

    asl-det train asl_det::multilabel/tresnet-m_asl_coco-224.py
"""
_base_ = './tresnet-l_asl_coco-448.py'

image_size = (224, 224)
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = image_size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = image_size

model = dict(backbone=dict(model_name='tresnet_m'))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
