"""Focal loss against a plain-Python version of mmcv's kernel."""

import math

import pytest
import torch
import torchvision
from comparison import check_same
from mmcv.ops import sigmoid_focal_loss

TINY = 2.0**-126  # mmcv takes no logarithm of anything smaller


def mmcv_focal_loss(x, label, column, gamma, alpha):
    """Loss and gradient of one entry."""
    p, q = (1 / (1 + math.exp(-s)) if s > -700 else 0.0 for s in (x, -x))
    if label == column:
        log = math.log(max(p, TINY))
        return -alpha * q**gamma * log, -alpha * q**gamma * (q - gamma * p * log)
    log = math.log(max(q, TINY))
    return (-(1 - alpha) * p**gamma * log,
            -(1 - alpha) * p**gamma * (gamma * q * log - p))


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
@pytest.mark.parametrize('scale', [3.0, 30.0, 1000.0])
def test_values_and_gradients_are_mmcvs(gamma, scale):
    logits = (torch.randn(30, 5) * scale).requires_grad_()
    labels = torch.arange(30) % 7 - 1  # -1: a row without a positive; 5: background
    loss = sigmoid_focal_loss(logits, labels, gamma, 0.25, None, 'none')
    grad, = torch.autograd.grad(loss.sum(), logits)
    entries = [[mmcv_focal_loss(x, label, c, gamma, 0.25) for c, x in enumerate(row)]
               for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    torch.testing.assert_close((loss.double(), grad.double()), tuple(
        torch.tensor([[entry[k] for entry in row] for row in entries], dtype=torch.double)
        for k in (0, 1)), rtol=1e-4, atol=1e-7)


def test_a_negative_label_is_a_row_of_negatives():
    logits = torch.randn(4, 3)
    unknown, background = (sigmoid_focal_loss(logits, torch.full((4,), label), 2.0, 0.25, None,
                                              'none') for label in (-1, 3))
    assert torch.equal(unknown, background) and (unknown > 0).all()


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_it_is_torchvisions_focal_loss(reduction):
    labels = torch.arange(40) % 6
    y = torch.nn.functional.one_hot(labels, 6)[:, :5].float()

    def theirs(x):
        loss = torchvision.ops.sigmoid_focal_loss(x, y, 0.25, 2.0)
        return {'none': loss, 'mean': loss.sum() / 40, 'sum': loss.sum()}[reduction]

    check_same(lambda x: sigmoid_focal_loss(x, labels, 2.0, 0.25, None, reduction), theirs,
               [torch.randn(40, 5) * 3])


def test_class_weights_are_taken_at_the_label_and_rows_without_a_class_count_once():
    labels, weight = torch.tensor([0, 2, 3, -1]), torch.tensor([2.0, 5.0, 3.0])
    check_same(lambda x: sigmoid_focal_loss(x, labels, 2.0, 0.25, weight, 'sum'),
               lambda x: (sigmoid_focal_loss(x, labels, 2.0, 0.25, None, 'none') *
                          torch.tensor([2.0, 3.0, 1.0, 1.0])[:, None]).sum(),
               [torch.randn(4, 3)])


def test_a_label_above_the_background_is_refused():
    with pytest.raises(ValueError, match='label 9: expected at most 5, the background'):
        sigmoid_focal_loss(torch.randn(4, 5), torch.tensor([0, 9, 2, 1]), 2.0, 0.25, None, 'sum')


def test_no_rows_cost_nothing():
    logits = torch.randn(0, 5, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.empty(0, dtype=torch.long), 2.0, 0.25, None, 'sum')
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 5)


def test_half_precision_is_computed_in_single():
    logits = torch.randn(50, 5) * 8
    labels = torch.arange(50) % 6
    half = logits.bfloat16().requires_grad_()
    loss = sigmoid_focal_loss(half, labels, 2.0, 0.25, None, 'none')
    single = sigmoid_focal_loss(half.detach().float(), labels, 2.0, 0.25, None, 'none')
    assert loss.dtype == torch.bfloat16 and torch.equal(loss, single.bfloat16())


@pytest.fixture
def default_bfloat16():
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures('default_bfloat16')
def test_another_default_dtype_changes_nothing():
    logits = torch.tensor([[0.3, -1.2]], dtype=torch.float32, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1]), 1.5, 0.3, None, 'none')
    grad, = torch.autograd.grad(loss.sum(), logits)
    entries = [mmcv_focal_loss(x, 1, c, 1.5, 0.3) for c, x in enumerate(logits[0].tolist())]
    torch.testing.assert_close(
        (loss[0].double(), grad[0].double()),
        tuple(torch.tensor(column, dtype=torch.double) for column in zip(*entries, strict=True)),
        rtol=1e-5, atol=0)
