"""VFNet with its varifocal loss on digits; with ASL: --loss asl --loss-where soft.

Box AP on the validation set: not run.
    asl-det train asl_det::digits/vfnet_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/vfnet_tiny.py', './_base_/digits_detection.py']
