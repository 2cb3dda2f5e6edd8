"""FCOS with focal loss on digits: the twin of fcos_r18-w16_fpn_asl-800i_digits.py.

Box AP 0.821 +- 0.010 (seeds 0, 1, 2) on the validation set (docs/detection_results.md).
    asl-det train asl_det::digits/fcos_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/fcos_tiny.py', './_base_/digits_detection.py']
