"""GFL with its quality focal loss on digits; with ASL: --loss asl --loss-where soft.

Box AP on the validation set: not run.
    asl-det train asl_det::digits/gfl_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/gfl_tiny.py', './_base_/digits_detection.py']
