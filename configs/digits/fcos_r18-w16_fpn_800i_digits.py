"""FCOS with focal loss on digits: the twin of fcos_r18-w16_fpn_asl-800i_digits.py.

Box AP on the validation set: not run. On other canvases of training scans, one seed
(class-wise NMS): 0.839, the twin with ASL 0.818.
    python tools/train.py configs/digits/fcos_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/fcos_tiny.py', './_base_/digits_detection.py']
