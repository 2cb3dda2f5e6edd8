"""The twin with binary cross-entropy.

    asl-det train asl_det::multilabel/resnet18-w16_bce_digits.py
"""
_base_ = './resnet18-w16_asl_digits.py'

model = dict(head=dict(loss=dict(gamma_neg=0.0, gamma_pos=0.0, clip=0.0)))
