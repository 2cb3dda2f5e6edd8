"""ATSS with focal loss on digits; with ASL: --loss asl.

Box AP 0.805 +- 0.004 (seeds 0, 1, 2) on the validation set, with ASL 0.812 +- 0.003
(docs/detection_results.md).
    asl-det train asl_det::digits/atss_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/atss_tiny.py', './_base_/digits_detection.py']
