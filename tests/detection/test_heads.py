"""The loss in every head class of mmdet that has classes to predict: one step of training."""

import math

import pytest
from head_trial import HEADS, NOT_HERE, head_config, try_head
from mmengine.config import Config

from asl_det.registry import type_name

SLOW = ('BBoxHead', 'RetinaSepBNHead')  # their networks do not get narrow


@pytest.mark.parametrize('head', [
    pytest.param(head, marks=pytest.mark.exhaustive if head in SLOW else ()) for head in HEADS])
def test_a_head_trains_with_the_loss_in_place_and_negatives_have_gradient(head):
    if head in NOT_HERE:
        pytest.skip(NOT_HERE[head])
    cfg = head_config(HEADS[head])
    assert f"'{head}'" in str(cfg.model)
    trial = try_head(cfg, 'asl')
    assert trial.swaps and 'AsymmetricLoss' in type_name(trial.swaps[0].new)
    # The priors lie just over the margin; features of noise spread the logits to both sides.
    assert 0.4 < trial.reached <= 1


def test_without_its_prior_a_margin_leaves_a_dense_head_without_gradient():
    cfg = head_config(HEADS['RetinaHead'])
    assert try_head(cfg, 'asl', prior=None).reached < 0.01
    assert math.isnan(try_head(cfg, None).reached)  # the loss of the config has no margin


def test_a_small_config_keeps_its_heads():
    cfg = head_config(HEADS['FCOSHead'])
    assert cfg.model.bbox_head.type == 'FCOSHead' and cfg.model.bbox_head.num_classes == 80
    assert isinstance(cfg, Config) and cfg.model.backbone.base_channels == 16
