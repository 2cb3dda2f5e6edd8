"""The loss in the place of focal loss, in heads that call it in different ways."""

import pytest
import torch
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from training_step import build_model, training_step

from asl_det.losses import AsymmetricLoss

FOCAL_LIKE = ('FocalLoss', 'QualityFocalLoss', 'VarifocalLoss')
HEADS = {
    'atss/atss_r50_fpn_1x_coco': 'indices and weights',
    'paa/paa_r50_fpn_1x_coco': "reduction_override='none'",
    'fsaf/fsaf_r50_fpn_1x_coco': "reduction 'none'",
    'gfl/gfl_r50_fpn_1x_coco': 'pairs of index and score',
    'tood/tood_r50_fpn_1x_coco': 'probabilities',
    'vfnet/vfnet_r50_fpn_1x_coco': 'soft targets; deformable convolution',
    'reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco': 'deformable convolution',
    'sabl/sabl-retinanet_r50_fpn_1x_coco': 'indices',
    'foveabox/fovea_r50_fpn_4xb4-1x_coco': 'indices',
    'yolof/yolof_r50-c5_8xb8-1x_coco': 'indices',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco': 'pairs of index and score',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco': 'deformable attention',
    'dab_detr/dab-detr_r50_8xb2-50e_coco': 'reads loss_cls.use_sigmoid',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco': 'RoI heads; roi_align',
}


def swap_losses(node):
    """Put the asymmetric loss in the place of every focal loss; returns how many."""
    if isinstance(node, (list, tuple)):
        return sum(swap_losses(item) for item in node)
    if not isinstance(node, dict):
        return 0
    count = 0
    for name, value in node.items():
        if isinstance(value, dict) and 'loss_cls' in name and value.get('type') in FOCAL_LIKE:
            kept = {k: value[k] for k in ('reduction', 'activated', 'loss_weight') if k in value}
            node[name] = dict(type='AsymmetricLoss', use_sigmoid=True, gamma_neg=2.0, **kept)
            count += 1
        else:
            count += swap_losses(value)
    return count


@pytest.mark.parametrize('name', HEADS)
def test_a_head_trains_with_the_loss_in_place(name):
    config = get_config(f'mmdet::{name}.py')
    assert swap_losses(config.model) > 0
    model = build_model(config)
    if name.startswith('tood'):
        # mmengine's runner keeps it in a training
        MessageHub.get_current_instance().update_info('epoch', 0)
    found = [m for m in model.modules() if isinstance(m, AsymmetricLoss)]
    assert found
    losses = training_step(model)
    cls = [value for key, value in losses.items() if 'loss_cls' in key]
    assert cls and sum(cls) > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
