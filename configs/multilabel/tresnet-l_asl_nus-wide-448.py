"""ASL on NUS-WIDE, TResNet-L, 448 px.

Published: mAP 65.2. Not run here.

    asl-det train asl_det::multilabel/tresnet-l_asl_nus-wide-448.py
"""
_base_ = ['./_base_/tresnet_l.py', './_base_/nus_wide.py']

model = dict(head=dict(num_classes=81))
