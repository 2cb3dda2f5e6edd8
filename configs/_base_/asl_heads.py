"""Dense heads with the asymmetric loss: what differs from mmdet's focal loss.

A config takes this file as a second base and one of the heads, and names the
import where its first base does not:
    custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)
    model = dict(bbox_head={{_base_.asl_retina_head}})
"""

asl_loss = dict(
    _delete_=True,
    type='AsymmetricLoss',
    use_sigmoid=True,
    gamma_neg=2.0,
    gamma_pos=0.0,
    clip=0.05)
# Every probability starts at the prior. mmdet's 0.01 lies under the margin, where
# negatives have no gradient, so it is raised just above the margin.
asl_prior = 0.06

asl_retina_head, asl_fcos_head = (
    dict(
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name=classifier, std=0.01, bias_prob=asl_prior)),
        loss_cls=asl_loss) for classifier in ('retina_cls', 'conv_cls'))
