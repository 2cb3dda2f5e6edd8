"""Faster R-CNN with softmax on digits; with ASL: --loss asl.

Box AP on the validation set: not run.
    python tools/train.py configs/digits/faster-rcnn_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/faster-rcnn_tiny.py', './_base_/digits_detection.py']
