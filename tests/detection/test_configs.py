"""Every shipped config builds, starts right and trains a step."""

from pathlib import Path

import pytest
import torch
from mmdet.models.losses import FocalLoss
from mmengine.config import Config
from training_step import build_model, training_step

from asl_det.losses import AsymmetricLoss, AsymmetricLossSingleLabel

CONFIGS = sorted(p for p in Path('configs').rglob('*.py')
                 if not {'_base_', 'multilabel'} & set(p.parts))


@pytest.fixture(params=CONFIGS, ids=[p.stem for p in CONFIGS])
def config(request):
    return Config.fromfile(request.param)


def test_there_are_configs():
    names = {p.name for p in CONFIGS}
    assert {'retinanet_r18_fpn_asl-1x_coco.py', 'retinanet_r50_fpn_asl-1x_coco.py',
            'retinanet_r101_fpn_asl-1x_coco.py',
            'fcos_r50-caffe_fpn_gn-head_asl-1x_coco.py'} <= names


def test_the_head_has_one_channel_a_class_and_the_loss_in_place(config):
    head = build_model(config).bbox_head
    name = Path(config.filename).stem
    loss = AsymmetricLoss if '_asl' in name else FocalLoss
    if '_asl-softmax' in name:
        loss = AsymmetricLossSingleLabel
    assert head.cls_out_channels == head.num_classes + (loss is AsymmetricLossSingleLabel)
    assert isinstance(head.loss_cls, loss)


def test_negatives_have_gradient_at_the_start(config):
    head = build_model(config).bbox_head
    if not isinstance(head.loss_cls, AsymmetricLoss):
        pytest.skip('no margin')
    head.init_weights()
    classifier = getattr(head, 'retina_cls', None) or head.conv_cls
    prior = classifier.bias.sigmoid()
    assert (prior > head.loss_cls.clip).all() and (prior < 0.2).all()
    logits = classifier.bias.detach().clone().requires_grad_()
    head.loss_cls(logits, torch.zeros_like(logits)).backward()
    assert (logits.grad > 0).all()


def test_one_training_step_changes_the_classifier(config):
    model = build_model(config)
    model.bbox_head.init_weights()
    classifier = getattr(model.bbox_head, 'retina_cls', None) or model.bbox_head.conv_cls
    losses = training_step(model)
    assert losses['loss_cls'] > 0 and losses['loss_bbox'] > 0
    assert classifier.weight.grad.isfinite().all() and classifier.weight.grad.abs().sum() > 0


def test_configs_say_what_they_reproduce_and_how():
    for path in CONFIGS:
        head = path.read_text().split('"""')[1]
        assert 'python tools/train.py' in head and 'AP' in head, path
