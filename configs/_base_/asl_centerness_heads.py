"""The asymmetric loss in a head with a centerness: FCOS, ATSS and the like.

As asl_heads.py, with weaker focusing of both sides, a small margin and focal loss's balance.
"""

asl_loss = dict(
    _delete_=True,
    type='AsymmetricLoss',
    use_sigmoid=True,
    gamma_neg=1.0,
    gamma_pos=1.0,
    clip=0.05,
    alpha=0.25)
custom_hooks = [dict(type='ClassifierPriorHook', prior=0.07, heads=['bbox_head'])]
