"""ASL on Pascal VOC 2007, TResNet-L, 448 px.

Published: mAP 96.0 with model_name='tresnet_xl'. Not run here.

    asl-det train asl_det::multilabel/tresnet-l_asl_voc07-448.py
"""
_base_ = ['./_base_/tresnet_l.py', './_base_/voc07.py']

model = dict(head=dict(num_classes=20))
