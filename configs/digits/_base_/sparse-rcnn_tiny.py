"""Sparse R-CNN, three stages on a ResNet-18 of quarter width, from scratch, for 160 px canvases."""
_base_ = './faster-rcnn_tiny.py'

num_stages = 3
model = dict(
    type='SparseRCNN',
    rpn_head=dict(
        _delete_=True,
        type='EmbeddingRPNHead',
        num_proposals=40,
        proposal_feature_channel=64),
    roi_head=dict(
        _delete_=True,
        type='SparseRoIHead',
        num_stages=num_stages,
        stage_loss_weights=[1] * num_stages,
        proposal_feature_channel=64,
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=64,
            featmap_strides=[8, 16],
            finest_scale=28),
        bbox_head=[
            dict(
                type='DIIHead',
                num_classes=10,
                num_ffn_fcs=2,
                num_heads=4,
                num_cls_fcs=1,
                num_reg_fcs=3,
                feedforward_channels=256,
                in_channels=64,
                dropout=0.0,
                ffn_act_cfg=dict(type='ReLU', inplace=True),
                dynamic_conv_cfg=dict(
                    type='DynamicConv',
                    in_channels=64,
                    feat_channels=16,
                    out_channels=64,
                    input_feat_shape=7,
                    act_cfg=dict(type='ReLU', inplace=True),
                    norm_cfg=dict(type='LN')),
                loss_cls=dict(
                    type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
                loss_bbox=dict(type='L1Loss', loss_weight=5.0),
                loss_iou=dict(type='GIoULoss', loss_weight=2.0),
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    clip_border=False,
                    target_means=[0.0] * 4,
                    target_stds=[0.5, 0.5, 1.0, 1.0])) for _ in range(num_stages)
        ]),
    train_cfg=dict(
        _delete_=True,
        rpn=None,
        rcnn=[
            dict(
                assigner=dict(
                    type='HungarianAssigner',
                    match_costs=[
                        dict(type='FocalLossCost', weight=2.0),
                        dict(type='BBoxL1Cost', weight=5.0, box_format='xyxy'),
                        dict(type='IoUCost', iou_mode='giou', weight=2.0)
                    ]),
                sampler=dict(type='PseudoSampler'),
                pos_weight=1) for _ in range(num_stages)
        ]),
    test_cfg=dict(_delete_=True, rpn=None, rcnn=dict(max_per_img=30)))
