"""Sparse R-CNN with focal loss on digits; with ASL: --loss asl.

Box AP on the validation set: not run.
    asl-det train asl_det::digits/sparse-rcnn_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/sparse-rcnn_tiny.py', './_base_/digits_detection.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1))
