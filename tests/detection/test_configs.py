"""Every shipped config builds, starts right and trains a step."""

from pathlib import Path

import pytest
from head_trial import build_model, make_small, training_step, try_head
from mmdet.models.losses import (
    CrossEntropyLoss,
    FocalLoss,
    QualityFocalLoss,
    VarifocalLoss,
)
from mmengine.config import Config
from torch import nn

from asl_det.detection import swap_losses
from asl_det.losses import AsymmetricLoss, AsymmetricLossSingleLabel
from asl_det.training.hooks.classifier_prior import CLASSIFIERS

CONFIGS = sorted(p for p in Path('configs').rglob('*.py')
                 if not {'_base_', 'multilabel'} & set(p.parts))


# Losses of heads that do not have focal loss.
OWN_LOSS = {'faster-rcnn': CrossEntropyLoss, 'gfl': QualityFocalLoss, 'vfnet': VarifocalLoss}


def head_of(model):
    head = model.roi_head.bbox_head if hasattr(model, 'roi_head') else model.bbox_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def classifier_of(head):
    return next(getattr(head, n) for n in CLASSIFIERS if hasattr(head, n))


@pytest.fixture(params=CONFIGS, ids=[p.stem for p in CONFIGS])
def config(request):
    return Config.fromfile(request.param)


def test_there_are_configs():
    names = {p.name for p in CONFIGS}
    assert {'retinanet_r18_fpn_asl-1x_coco.py', 'retinanet_r50_fpn_asl-1x_coco.py',
            'retinanet_r101_fpn_asl-1x_coco.py',
            'fcos_r50-caffe_fpn_gn-head_asl-1x_coco.py'} <= names


def test_the_head_has_one_channel_a_class_and_the_loss_in_place(config):
    head = head_of(build_model(config))
    name = Path(config.filename).stem
    loss = AsymmetricLoss if '_asl' in name else OWN_LOSS.get(name.split('_')[0], FocalLoss)
    if '_asl-softmax' in name:
        loss = AsymmetricLossSingleLabel
    softmax = loss in (AsymmetricLossSingleLabel, CrossEntropyLoss)
    assert classifier_of(head).weight.shape[0] % (head.num_classes + softmax) == 0
    assert isinstance(head.loss_cls, loss)


def test_more_than_half_of_the_negatives_have_gradient_at_the_first_iteration(config):
    if '_asl-' not in Path(config.filename).stem or 'softmax' in config.filename:
        pytest.skip('no margin')
    if '_coco' in config.filename:
        make_small(config.model)
    assert try_head(config, None).reached > 0.5
    config.custom_hooks = []  # a head of mmdet as it is
    assert try_head(config, None).reached < 0.01


def test_one_training_step_changes_the_classifier(config):
    model = build_model(config)
    head = head_of(model)
    head.init_weights()
    classifier = classifier_of(head)
    losses = training_step(model)
    for part in ('loss_cls', 'loss_bbox'):
        assert sum(v for k, v in losses.items() if k.endswith(part)) > 0
    assert classifier.weight.grad.isfinite().all() and classifier.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('twin', ['retinanet', 'fcos'])
def test_the_hand_written_configs_are_what_the_flag_writes(twin):
    by_hand = Config.fromfile(f'configs/digits/{twin}_r18-w16_fpn_asl-800i_digits.py')
    by_flag = Config.fromfile(f'configs/digits/{twin}_r18-w16_fpn_800i_digits.py')
    swap_losses(by_flag, 'asl')
    assert by_hand.custom_hooks == by_flag.custom_hooks
    one, other = (dict(cfg.model.bbox_head.loss_cls) for cfg in (by_hand, by_flag))
    assert other.pop('loss_weight', 1.0) == 1.0 and one == other


def test_configs_say_what_they_reproduce_and_how():
    for path in CONFIGS:
        head = path.read_text().split('"""')[1]
        assert 'asl-det train asl_det::' in head and 'AP' in head, path
