"""RetinaNet with the asymmetric loss on digits.

Box AP 0.825 +- 0.007 (seeds 0, 1, 2) on the validation set, two CPU cores, 2 to 3 minutes.
    asl-det train asl_det::digits/retinanet_r18-w16_fpn_asl-800i_digits.py
"""
_base_ = ['./retinanet_r18-w16_fpn_800i_digits.py', '../_base_/asl_heads.py']

model = dict(bbox_head=dict(loss_cls={{_base_.asl_loss}}))
# With the margin 0.4 a place that is as likely a digit as not has the score 0.9.
default_hooks = dict(visualization=dict(score_thr=0.9))
