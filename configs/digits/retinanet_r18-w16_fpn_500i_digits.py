_base_ = ['./_base_/retinanet_tiny.py', './_base_/digits_detection.py']
