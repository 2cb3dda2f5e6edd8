"""The twin with binary cross-entropy, and the learning rate that suits it.

    asl-det train asl_det::multilabel/efficientnet-lite0_bce_coco18.py --data-root path/to/coco18/
"""
_base_ = './efficientnet-lite0_asl_coco18.py'

model = dict(head=dict(loss=dict(gamma_neg=0.0, gamma_pos=0.0, clip=0.0)))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
