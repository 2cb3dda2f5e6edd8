"""The digits recipe with a gamma_neg that adjusts itself to a target for delta_p.

    asl-det data digits --preset multilabel
    asl-det train asl_det::multilabel/resnet18-w16_asl-adaptive_digits.py
"""
_base_ = './resnet18-w16_asl_digits.py'

model = dict(head=dict(loss=dict(adaptive=dict(delta_p_target=0.1, step_size=0.1))))
default_hooks = dict(adaptive_gamma=dict(type='AdaptiveGammaHook'))  # several processes, one gamma
