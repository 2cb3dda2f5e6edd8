"""ATSS with focal loss on digits; with ASL: --loss asl.

Box AP on the validation set: not run.
    python tools/train.py configs/digits/atss_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/atss_tiny.py', './_base_/digits_detection.py']
