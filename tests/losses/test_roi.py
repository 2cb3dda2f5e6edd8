"""The loss in RoI heads, through mmdet's own questions to a loss."""

import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmengine.registry import init_default_scope

from asl_det.losses import AsymmetricLoss, RoIAsymmetricLoss


def test_without_a_background_column_the_labels_are_as_in_dense_heads():
    logits, labels = torch.randn(20, 5), torch.randint(0, 6, (20,))
    weight = torch.rand(20)
    ours = RoIAsymmetricLoss(gamma_neg=2, clip=0.1)
    assert ours.get_cls_channels(5) == 5
    assert torch.equal(ours(logits, labels, weight, avg_factor=7),
                       AsymmetricLoss(gamma_neg=2, clip=0.1)(logits, labels, weight, avg_factor=7))


def test_with_a_background_column_background_is_a_class_more():
    logits, labels = torch.randn(20, 6), torch.randint(0, 6, (20,))
    ours = RoIAsymmetricLoss(gamma_neg=2, clip=0.1, background=True)
    assert ours.get_cls_channels(5) == 6
    target = torch.nn.functional.one_hot(labels, 6).float()
    assert ours(logits, labels).item() == pytest.approx(
        AsymmetricLoss(gamma_neg=2, clip=0.1)(logits, target).item())


@pytest.mark.parametrize('background', [False, True])
def test_scores_are_those_of_independent_classes_and_background_stands_last(background):
    loss = RoIAsymmetricLoss(background=background)
    logits = torch.randn(9, 4 + background)
    scores = loss.get_activation(logits)
    assert scores.shape == (9, 5) and torch.equal(scores[:, :4], logits[:, :4].sigmoid())
    if not background:
        assert torch.allclose(scores[:, 4], 1 - scores[:, :4].amax(1))


def test_accuracy_counts_background_where_no_class_is_probable():
    loss = RoIAsymmetricLoss()
    logits = torch.tensor([[9.0, -9], [-9, 9], [-9, -9], [-9, 9]])
    assert loss.get_accuracy(logits, torch.tensor([0, 1, 2, 0]))['acc'] == 75


@pytest.mark.parametrize('background', [False, True])
def test_a_head_of_mmdet_predicts_trains_and_decides_with_it(background):
    init_default_scope('mmdet')
    head = Shared2FCBBoxHead(
        in_channels=2, fc_out_channels=8, roi_feat_size=2, num_classes=3,
        loss_cls=dict(type='RoIAsymmetricLoss', use_sigmoid=True, background=background))
    assert head.fc_cls.out_features == 3 + background
    logits, boxes = head(torch.randn(6, 2, 2, 2))
    rois = torch.tensor([[0.0, 0, 0, 10, 10]]).repeat(6, 1)
    losses = head.loss(logits, boxes, rois, torch.tensor([0, 1, 2, 3, 3, 3]), torch.ones(6),
                       torch.zeros(6, 4), torch.ones(6, 4))
    assert losses['loss_cls'] > 0 and 0 <= losses['acc'] <= 100
    losses['loss_cls'].backward()
    logits = torch.full((6, 3 + background), -9.0)
    logits[torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 2])] = 3.0
    found = head._predict_by_feat_single(
        rois[:1].repeat(6, 1), logits, torch.zeros(6, 12),
        dict(img_shape=(20, 20)), rcnn_test_cfg=dict_of(score_thr=0.5))
    assert sorted(found.labels.tolist()) == [0, 1, 2]  # NMS leaves one of each
    assert found.scores.min() == pytest.approx(torch.tensor(3.0).sigmoid().item())


def dict_of(score_thr):
    from mmengine.config import ConfigDict
    return ConfigDict(score_thr=score_thr, nms=dict(type='nms', iou_threshold=0.5), max_per_img=9)
