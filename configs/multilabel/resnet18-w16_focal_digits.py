"""The twin with focal loss (without class balance, times 2).

    asl-det train asl_det::multilabel/resnet18-w16_focal_digits.py
"""
_base_ = './resnet18-w16_asl_digits.py'

model = dict(head=dict(loss=dict(gamma_neg=2.0, gamma_pos=2.0, clip=0.0)))
