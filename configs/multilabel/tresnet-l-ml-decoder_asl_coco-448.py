"""ASL on MS-COCO, TResNet-L with an ML-Decoder head, 448 px.

Published: mAP 90.0 (github.com/Alibaba-MIIL/ML_Decoder, which differs: weights that were
pretrained with this head, batches of 56, all 40 epochs of a 40-epoch cycle). Not run here.

    asl-det train asl_det::multilabel/tresnet-l-ml-decoder_asl_coco-448.py
"""
_base_ = './tresnet-l_asl_coco-448.py'

# A query for every class; from several hundred classes on, fewer queries that share (num_groups=100).
model = dict(head=dict(type='MLDecoderHead', num_groups=80))
