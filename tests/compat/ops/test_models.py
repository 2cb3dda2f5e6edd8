"""Detectors of mmdet that need operators beyond those that the loss tests build."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.hub import get_config
from training_step import SIZE, build_model, training_step


def narrow_swin(model):
    """The same network of 1/16 of the width and fewer blocks."""
    model.backbone.update(embed_dims=12, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8],
                          window_size=4)
    model.neck[0].in_channels = [24, 48, 96]


CONFIGS = {
    'dyhead/atss_r50_fpn_dyhead_1x_coco': 'offsets of another level',
    'dyhead/atss_r50-caffe_fpn_dyhead_1x_coco': 'offsets of another level',
    'dyhead/atss_swin-l-p4-w12_fpn_dyhead_ms-2x_coco': 'offsets of another level',
    'carafe/faster-rcnn_r50_fpn-carafe_1x_coco': 'carafe',
    'dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco': 'deformable RoI pooling',
    'guided_anchoring/ga-retinanet_r50_fpn_1x_coco': 'masked convolution',
}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_detector_trains_and_predicts(name):
    config = get_config(f'mmdet::{name}.py')
    if 'swin' in name:
        narrow_swin(config.model)
    if 'dyhead' in name:
        config.model.neck[1].num_blocks = 2
    if 'rcnn' in name:
        config.model.roi_head.bbox_head.fc_out_channels = 32
        for proposals in (config.model.train_cfg.rpn_proposal, config.model.test_cfg.rpn):
            proposals.max_per_img = 50
    model = build_model(config)
    losses = training_step(model)
    assert losses['loss'] > 0
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(g is None or torch.isfinite(g).all() for g in grads.values())
    if 'dyhead' in name:
        offsets = [g for n, g in grads.items() if 'spatial_conv_offset.weight' in n]
        assert len(offsets) == 2 and all(g.abs().sum() > 0 for g in offsets)
    model.eval()
    sample = DetDataSample(metainfo=dict(
        img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE),
        batch_input_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0)))
    image = torch.randint(0, 255, (3, SIZE, SIZE), dtype=torch.uint8)
    result, = model.test_step(dict(inputs=[image], data_samples=[sample]))
    assert torch.isfinite(result.pred_instances.bboxes).all()
