"""The asymmetric loss in a dense head without centerness: what ``--loss asl`` puts into a config, by hand.

A config takes this file as a second base, and names the import where its
first base does not:
    custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)
    model = dict(bbox_head=dict(loss_cls={{_base_.asl_loss}}))
"""

asl_loss = dict(
    _delete_=True,
    type='AsymmetricLoss',
    use_sigmoid=True,
    gamma_neg=2.0,
    gamma_pos=0.0,
    clip=0.4)
# Every probability starts at the prior. mmdet's 0.01 lies under the margin, where
# negatives have no gradient, so it is raised just above the margin.
custom_hooks = [dict(type='ClassifierPriorHook', prior=0.42, heads=['bbox_head'])]
