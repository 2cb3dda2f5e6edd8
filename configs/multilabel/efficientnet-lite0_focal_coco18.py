"""The twin with focal loss (gamma 1), and the learning rate that suits it.

    asl-det train asl_det::multilabel/efficientnet-lite0_focal_coco18.py --data-root path/to/coco18/
"""
_base_ = './efficientnet-lite0_asl_coco18.py'

model = dict(head=dict(loss=dict(gamma_neg=1.0, gamma_pos=1.0, clip=0.0)))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
