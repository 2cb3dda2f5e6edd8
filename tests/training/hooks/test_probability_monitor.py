"""What the monitor measures, by hand."""

import inspect
import os
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from processes import python
from torch import nn

from asl_det.errors import UserError
from asl_det.losses import AsymmetricLoss
from asl_det.training.hooks import ProbabilityMonitorHook
from asl_det.training.hooks.probability_monitor import find_losses, measure, summarize

BCE = dict(type='AsymmetricLoss', use_sigmoid=True, gamma_neg=0.0, gamma_pos=0.0, clip=0.0)


def record(loss, *args, **kwargs):
    call = inspect.signature(loss.forward).bind(*args, **kwargs)
    return summarize(measure(loss, call).tolist(), loss)


def test_probabilities_margin_and_gradient_are_those_of_the_batch():
    loss = AsymmetricLoss(gamma_neg=2.0, clip=0.3)
    logits, target = torch.randn(50, 4), (torch.rand(50, 4) < 0.3).float()
    got = record(loss, logits, target)
    p, positive = logits.sigmoid(), target == 1
    x = logits.clone().requires_grad_()
    grad, = torch.autograd.grad(loss(x, target), x)
    assert got['prob_pos'] == pytest.approx(p[positive].mean().item(), abs=1e-6)
    assert got['prob_neg'] == pytest.approx(p[~positive].mean().item(), abs=1e-6)
    assert got['delta_p'] == pytest.approx(got['prob_pos'] - 1 + got['prob_neg'])
    assert got['under_margin'] == pytest.approx((p[~positive] <= 0.3).float().mean().item())
    assert got['grad_pos'] == pytest.approx((grad.abs()[positive].sum() / grad.abs().sum()).item(),
                                            rel=1e-5)
    assert got['gamma_neg'] == 2.0


def test_index_targets_weights_and_unknown_labels():
    loss = AsymmetricLoss()
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, -1, 0])
    weight = torch.tensor([1.0, 1, 1, 1, 1, 0])
    got = record(loss, logits, labels, weight, avg_factor=2.0)
    dense = record(loss, logits[:4], torch.eye(4)[:, :3])
    assert got == pytest.approx(dense, abs=1e-6)


@pytest.mark.parametrize('config', [
    BCE, dict(type='FocalLoss', use_sigmoid=True), dict(type='CrossEntropyLoss', use_sigmoid=True)],
    ids=lambda c: c['type'])
def test_any_registered_loss_is_measured(config):
    loss = MODELS.build(config)
    got = record(loss, torch.randn(30, 4), (torch.rand(30, 4) < 0.3).long())
    assert 0 < got['grad_pos'] < 1 and 0 < got['prob_pos'] < 1


def test_softmax_losses_are_measured_by_their_softmax():
    loss = MODELS.build(dict(type='AsymmetricLossSingleLabel', use_sigmoid=False))
    logits, labels = torch.randn(20, 5), torch.randint(0, 5, (20,))
    got = record(loss, logits, labels)
    assert got['prob_pos'] == pytest.approx(
        logits.softmax(1).gather(1, labels[:, None]).mean().item(), abs=1e-6)


def test_measuring_does_not_move_an_adaptive_loss():
    loss = AsymmetricLoss(adaptive=dict(delta_p_target=0.1))
    logits, target = torch.randn(20, 4), (torch.rand(20, 4) < 0.3).long()
    before = [b.clone() for b in loss.buffers()]
    record(loss, logits, target)
    assert all(torch.equal(a, b) for a, b in zip(before, loss.buffers(), strict=True))
    assert loss.training


def test_nothing_is_invented_where_there_are_no_positives():
    got = record(AsymmetricLoss(), torch.randn(4, 3), torch.zeros(4, 3))
    assert 'prob_pos' not in got and 'delta_p' not in got and got['prob_neg'] > 0


def test_a_call_by_keywords_is_measured():
    logits, target = torch.randn(30, 4), (torch.rand(30, 4) < 0.3).long()
    weight = (torch.arange(30) % 2).float()
    expected = record(AsymmetricLoss(), logits, target, weight)
    assert record(AsymmetricLoss(), pred=logits, target=target, weight=weight) == expected
    bce = MODELS.build(dict(type='CrossEntropyLoss', use_sigmoid=True))
    assert record(bce, cls_score=logits, label=target) == record(bce, logits, target)


@pytest.mark.parametrize('config', [
    dict(type='CrossEntropyLoss', use_sigmoid=False),
    dict(type='AsymmetricLossSingleLabel', use_sigmoid=False)], ids=lambda c: c['type'])
def test_labels_that_the_loss_ignores_are_not_counted(config):
    loss = MODELS.build(config)
    logits, labels = torch.randn(20, 5), torch.randint(0, 5, (20,))
    labels[12:] = -100
    assert record(loss, logits, labels) == pytest.approx(record(loss, logits[:12], labels[:12]))


@pytest.mark.parametrize('loss', [dict(BCE, gamma_neg=4.0), dict(type='FocalLoss')],
                         ids=lambda c: c['type'])
def test_shares_of_half_precision_gradients_are_those_of_float32(loss):
    """The entries of a large mean have gradients that fp16 rounds to zero."""
    loss = MODELS.build(loss)
    logits = (torch.randn(3000, 40) - 5).half()
    target = torch.randint(0, 41, (3000,))
    assert record(loss, logits, target) == pytest.approx(record(loss, logits.float(), target))


def test_one_class_is_index_or_dense_by_its_shape():
    loss, logits = AsymmetricLoss(), torch.randn(9, 1)
    labels = torch.tensor([0, 1, 1] * 3)  # 0 is the class, 1 background
    assert record(loss, logits, labels) == record(loss, logits, 1 - labels[:, None])


def test_measuring_needs_little_memory_beside_the_gradient():
    code = """
import inspect, torch, asl_det
from asl_det.training.hooks.probability_monitor import measure
from asl_det.losses import AsymmetricLoss
def peak():
    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))
torch.set_num_threads(1)
loss = AsymmetricLoss()
bind = inspect.signature(loss.forward).bind
measure(loss, bind(torch.zeros(9, 80), torch.full((9,), 80)))
logits, labels = torch.randn(200_000, 80) - 6, torch.full((200_000,), 80)
before = peak()
measure(loss, bind(logits, labels))
print((peak() - before) * 1024 / logits.numel() / 4)
"""
    if not os.path.exists('/proc/self/status'):
        pytest.skip('needs /proc')
    result = python('-c', code)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[-1]) < 2.0


def test_losses_are_found_by_what_they_are():
    model = nn.ModuleDict(dict(
        objectness=MODELS.build(dict(type='CrossEntropyLoss', use_sigmoid=True)),
        mask=MODELS.build(dict(type='CrossEntropyLoss', use_mask=True)),
        box=MODELS.build(dict(type='L1Loss'))))
    assert find_losses(model) == [model['objectness']]
    model['anything'] = AsymmetricLoss()
    assert find_losses(model) == [model['anything']]
    assert find_losses(model, ['objectness']) == [model['objectness']]
    with pytest.raises(UserError, match="no classification loss 'box': it has objectness, any"):
        find_losses(model, ['box'])


def test_a_model_without_a_classification_loss_is_refused():
    with pytest.raises(UserError, match='Linear has no classification loss'):
        ProbabilityMonitorHook().before_train(SimpleNamespace(model=nn.Linear(1, 1)))
