import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
import torchvision

from asl_det.losses import asymmetric_loss

GAMMAS = [0, 0.5, 1, 2, 4]
CLIPS = [0, 1e-6, 0.05, 0.2, 0.999]


def loss_and_grad(logits, targets, **kwargs):
    logits = logits.detach().requires_grad_()
    loss = asymmetric_loss(logits, targets, **kwargs)
    loss.sum().backward()
    return loss.detach(), logits.grad


def random_logits(dtype=torch.float32, n=4000, width=120.0):
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(n, generator=generator) * 2 * width - width
    usual = torch.randn(n, generator=generator) * 4
    return torch.cat([wide, usual, torch.tensor([0.0, width, -width])]).to(dtype)


@pytest.mark.parametrize('constant', [False, True])
@pytest.mark.parametrize('clip', CLIPS)
@pytest.mark.parametrize('gamma', GAMMAS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_value_and_gradient_equal_the_float64_definition(dtype, gamma, clip, constant):
    logits = random_logits(dtype)
    for target in (0.0, 1.0, 0.3):
        targets = torch.full_like(logits, target)
        loss, grad = loss_and_grad(logits, targets, gamma_pos=gamma, gamma_neg=gamma, clip=clip,
                                   disable_torch_grad_focal_loss=constant)
        expected, expected_grad = reference.asymmetric_loss(
            logits.double().numpy(), targets.double().numpy(), gamma, gamma, clip,
            constant_weight=constant)
        assert loss.isfinite().all() and grad.isfinite().all()
        np.testing.assert_allclose(loss.double(), expected, rtol=1e-5, atol=1e-30)
        # autograd hands the gradient back in the dtype of the logits
        rtol = {torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(dtype, 1e-5)
        atol = {torch.float16: 6e-8}.get(dtype, 1e-30)
        if target == 0.3:  # the branches pull in opposite directions and cancel
            atol = max(atol, 1e-6)
        np.testing.assert_allclose(grad.double(), expected_grad, rtol=rtol, atol=atol)


@pytest.mark.parametrize('clip', [0.01, 0.05, 0.5])
def test_precision_holds_right_next_to_the_margin(clip):
    threshold = math.log(clip / (1 - clip))
    logits = torch.tensor(threshold) + torch.logspace(-5, 0, 200)
    loss, grad = loss_and_grad(logits, torch.zeros_like(logits), gamma_pos=0, gamma_neg=4,
                               clip=clip)
    expected, expected_grad = reference.asymmetric_loss(logits.double(), np.zeros(200), 0, 4, clip)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=0)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=0)


def test_all_parameters_zero_is_binary_cross_entropy():
    logits = random_logits()
    targets = torch.rand(len(logits))
    loss = asymmetric_loss(logits, targets, gamma_pos=0, gamma_neg=0, clip=0)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('alpha', [None, 0.25, 0.7])
def test_equal_gammas_without_margin_are_torchvisions_focal_loss(alpha):
    logits = torch.randn(500, 8) * 3
    targets = (torch.rand(500, 8) < 0.2).float()
    loss = asymmetric_loss(logits, targets, gamma_pos=2, gamma_neg=2, clip=0, alpha=alpha)
    expected = torchvision.ops.sigmoid_focal_loss(
        logits, targets, alpha=-1 if alpha is None else alpha, gamma=2)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('clip, expected', [(0.05, 3.80845 / 3), (0.0, 5.1186 / 3)])
def test_golden_numbers(clip, expected):
    logits = torch.tensor([[5.0, -5, 0], [5, -5, 0]])
    targets = torch.tensor([[1, 0, 1], [0, 1, 0]])
    loss = asymmetric_loss(logits, targets, gamma_pos=1, gamma_neg=4, clip=clip)
    assert loss.mean().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_a_badly_missed_positive_keeps_its_gradient(dtype):
    logits = torch.tensor([-30.0, -100], dtype=dtype)
    _, grad = loss_and_grad(logits, torch.ones(2), gamma_pos=0, gamma_neg=4, clip=0.05)
    assert grad.tolist() == [-1, -1]


def test_negatives_below_the_margin_cost_nothing():
    logits = torch.tensor([-100.0, -5, math.log(0.05 / 0.95) - 1e-5])
    loss, grad = loss_and_grad(logits, torch.zeros(3), gamma_pos=0, gamma_neg=0, clip=0.05)
    assert loss.tolist() == [0] * 3 and grad.tolist() == [0] * 3


def test_soft_targets_mix_the_two_branches():
    logits, y = torch.randn(100) * 4, torch.rand(100)
    kwargs = dict(gamma_pos=1, gamma_neg=4, clip=0.05, alpha=0.4)
    positive = asymmetric_loss(logits, torch.ones(100), **kwargs)
    negative = asymmetric_loss(logits, torch.zeros(100), **kwargs)
    torch.testing.assert_close(asymmetric_loss(logits, y, **kwargs),
                               y * positive + (1 - y) * negative)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_class_indices_equal_their_one_hot_form(dtype):
    logits = torch.randn(60, 5)
    labels = torch.arange(60) % 6  # 5 is background
    dense = F.one_hot(labels, 6)[:, :5]
    kwargs = dict(gamma_pos=0, gamma_neg=4, clip=0.05)
    torch.testing.assert_close(asymmetric_loss(logits, labels.to(dtype), **kwargs),
                               asymmetric_loss(logits, dense.bool(), **kwargs))


@pytest.mark.parametrize('ignore_index', [-1, 255])
def test_unknown_targets_cost_nothing_and_have_no_gradient(ignore_index):
    logits = torch.full((3, 2), 80.0)
    targets = torch.tensor([[0, ignore_index], [1, ignore_index], [ignore_index, 0]])
    loss, grad = loss_and_grad(logits, targets, gamma_pos=0, gamma_neg=2, clip=0,
                               ignore_index=ignore_index)
    unknown = targets == ignore_index
    assert (loss[unknown] == 0).all() and (grad[unknown] == 0).all()
    assert (grad[~unknown & (targets == 0)] > 0.9).all()
    loss = asymmetric_loss(logits, torch.tensor([ignore_index, 2, 0]), gamma_pos=0, gamma_neg=2,
                           clip=0, ignore_index=ignore_index)
    assert loss[0].sum() == 0 and loss[1].sum() > 0


@pytest.mark.parametrize('clip', [0, 0.05])
def test_probabilities_give_the_loss_of_their_logits(clip):
    logits = torch.randn(300, dtype=torch.float64) * 3
    targets = torch.rand(300)
    kwargs = dict(gamma_pos=1, gamma_neg=3, clip=clip)
    expected, expected_grad = loss_and_grad(logits, targets, **kwargs)
    leaf = logits.clone().requires_grad_()
    loss = asymmetric_loss(leaf.sigmoid(), targets, activated=True, **kwargs)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(leaf.grad, expected_grad, rtol=1e-4, atol=1e-6)


def test_saturated_probabilities_are_finite():
    p = torch.tensor([0.0, 1.0, 0.0, 1.0])
    loss, grad = loss_and_grad(p, torch.tensor([0, 0, 1, 1]), gamma_pos=1, gamma_neg=0.5,
                               clip=0.05, activated=True)
    assert loss.isfinite().all() and grad.isfinite().all()


def test_the_loss_of_a_negative_grows_with_its_logit_and_of_a_positive_falls():
    logits = torch.linspace(-60, 60, 5000, dtype=torch.float64)
    for gamma_pos, gamma_neg, clip in [(0, 4, 0.05), (1, 2, 0), (0.5, 0.5, 0.2)]:
        kwargs = dict(gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip)
        assert (asymmetric_loss(logits, torch.zeros(5000), **kwargs).diff() >= 0).all()
        assert (asymmetric_loss(logits, torch.ones(5000), **kwargs).diff() <= 0).all()


def test_gradcheck_to_second_order():
    logits = torch.randn(20, dtype=torch.float64) * 2
    targets = torch.rand(20, dtype=torch.float64)

    def function(x):
        return asymmetric_loss(x, targets, gamma_pos=1.5, gamma_neg=3, clip=0.05)

    assert torch.autograd.gradcheck(function, logits.requires_grad_())
    assert torch.autograd.gradgradcheck(function, logits.requires_grad_())
