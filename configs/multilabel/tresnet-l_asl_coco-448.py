"""ASL on MS-COCO, TResNet-L, 448 px.

Published: mAP 86.6 (CE 84.0, focal 85.1), CF1 81.4, OP 88.2, OR 79.2. Not run here.

    asl-det train asl_det::multilabel/tresnet-l_asl_coco-448.py
"""
_base_ = ['./_base_/tresnet_l.py', './_base_/coco.py']
