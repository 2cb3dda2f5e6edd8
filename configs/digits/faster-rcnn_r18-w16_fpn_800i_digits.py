"""Faster R-CNN with softmax on digits; with ASL: --loss asl.

Box AP 0.762 +- 0.008 (seeds 0, 1, 2) on the validation set, with ASL 0.796 +- 0.001
(docs/detection_results.md).
    asl-det train asl_det::digits/faster-rcnn_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/faster-rcnn_tiny.py', './_base_/digits_detection.py']
