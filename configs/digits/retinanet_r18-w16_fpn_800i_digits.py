"""RetinaNet with focal loss on digits: the twin of retinanet_r18-w16_fpn_asl-800i_digits.py.

Box AP 0.787 +- 0.021 (seeds 0, 1, 2) on the validation set, two CPU cores, 2 to 3 minutes.
    asl-det train asl_det::digits/retinanet_r18-w16_fpn_800i_digits.py
"""
_base_ = ['./_base_/retinanet_tiny.py', './_base_/digits_detection.py']
