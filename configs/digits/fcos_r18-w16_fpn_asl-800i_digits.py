"""FCOS with the asymmetric loss on digits.

Box AP 0.831 +- 0.008 (seeds 0, 1, 2) on the validation set, the focal twin 0.821 +- 0.010
(docs/detection_results.md).
    asl-det train asl_det::digits/fcos_r18-w16_fpn_asl-800i_digits.py
"""
_base_ = ['./fcos_r18-w16_fpn_800i_digits.py', '../_base_/asl_centerness_heads.py']

model = dict(bbox_head=dict(loss_cls={{_base_.asl_loss}}))
