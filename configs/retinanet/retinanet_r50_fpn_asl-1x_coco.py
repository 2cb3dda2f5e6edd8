"""RetinaNet R50 with the asymmetric loss on COCO, 1x schedule.

The focal-loss twin is mmdet::retinanet/retinanet_r50_fpn_1x_coco.py, box AP 36.5 as published by mmdet.
Box AP of this config: not run here (8 GPUs x 2 images).
    python tools/train.py configs/retinanet/retinanet_r50_fpn_asl-1x_coco.py
"""
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['asl_det'], allow_failed_imports=False)

model = dict(
    bbox_head=dict(
        # Every probability starts at the prior. mmdet's 0.01 lies under the margin,
        # where negatives have no gradient, so it is raised just above the margin.
        init_cfg=dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.06)),
        loss_cls=dict(
            _delete_=True,
            type='AsymmetricLoss',
            use_sigmoid=True,
            gamma_neg=2.0,
            gamma_pos=0.0,
            clip=0.05)))
