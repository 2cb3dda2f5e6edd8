"""The softmax form."""

import pytest
import torch
import torch.nn.functional as F

from asl_det.losses import AsymmetricLossSingleLabel


def reference(logits, target, gamma_pos, gamma_neg, eps):
    """In float64, entry by entry from the equation."""
    p = logits.double().softmax(1)
    c = logits.size(1)
    smooth = F.one_hot(target, c).double() * (1 - eps) + eps / c
    own = F.one_hot(target, c).bool()
    weight = torch.where(own, (1 - p)**gamma_pos, p**gamma_neg)
    return -(smooth * weight * p.log()).sum(1)


@pytest.mark.parametrize('gamma_pos, gamma_neg, eps', [(0, 4, 0.1), (1, 4, 0.1), (2, 0, 0),
                                                       (0.5, 1.5, 0.2)])
def test_value_and_gradient_are_those_of_the_equation(gamma_pos, gamma_neg, eps):
    logits = (3 * torch.randn(40, 6)).requires_grad_()
    target = torch.randint(0, 6, (40,))
    upstream = torch.rand(40)
    loss = AsymmetricLossSingleLabel(gamma_pos=gamma_pos, gamma_neg=gamma_neg, eps=eps,
                                     reduction='none')(logits, target)
    expected = reference(logits, target, gamma_pos, gamma_neg, eps)
    assert torch.allclose(loss.double(), expected, rtol=1e-5, atol=1e-6)
    got, = torch.autograd.grad(loss, logits, upstream)
    want, = torch.autograd.grad(expected, logits, upstream.double())
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-6)


def test_without_focusing_on_the_label_and_smoothing_it_is_cross_entropy():
    logits, target = torch.randn(30, 7), torch.randint(0, 7, (30,))
    loss = AsymmetricLossSingleLabel(gamma_pos=0, gamma_neg=4, eps=0)(logits, target)
    assert torch.allclose(loss, F.cross_entropy(logits, target))


@pytest.mark.parametrize('eps', [0.0, 0.1, 0.5])
def test_with_both_gammas_zero_it_is_cross_entropy_with_label_smoothing(eps):
    logits, target = torch.randn(30, 7), torch.randint(0, 7, (30,))
    loss = AsymmetricLossSingleLabel(gamma_pos=0, gamma_neg=0, eps=eps)(logits, target)
    assert torch.allclose(loss, F.cross_entropy(logits, target, label_smoothing=eps))


@pytest.mark.parametrize('gamma_pos, gamma_neg', [(0.3, 0.3), (0, 4), (2, 1)])
def test_extreme_logits_have_finite_values_and_gradients(gamma_pos, gamma_neg):
    logits = torch.tensor([[200.0, -200, 0], [-200, 200, 0], [0, 0, 0]], requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        loss = AsymmetricLossSingleLabel(gamma_pos=gamma_pos, gamma_neg=gamma_neg)(
            logits.to(dtype), torch.tensor([0, 0, 2]))
        grad, = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and grad.isfinite().all() and loss.dtype == torch.float32
    assert grad[1, 0] < 0  # a badly missed label still pulls


def test_weights_ignored_rows_and_reductions():
    logits, target = torch.randn(8, 4), torch.randint(0, 4, (8,))
    make = AsymmetricLossSingleLabel
    entries = make(reduction='none')(logits, target)
    weight = torch.rand(8)
    assert torch.allclose(make()(logits, target, weight), (entries * weight).mean())
    assert torch.allclose(make()(logits, target, weight, avg_factor=3.0),
                          (entries * weight).sum() / 3)
    assert torch.allclose(make(loss_weight=2.0, reduction='sum')(logits, target), 2 * entries.sum())
    ignored = target.clone()
    ignored[:3] = -100
    assert torch.allclose(make()(logits, ignored), entries[3:].mean())
    classes = torch.tensor([1.0, 2, 0, 4])
    assert torch.allclose(make(class_weight=classes.tolist(), reduction='none')(logits, target),
                          entries * classes[target])
    assert make()(logits, torch.full((8,), -100)) == 0


def test_mistakes_are_said():
    loss = AsymmetricLossSingleLabel()
    logits = torch.randn(3, 4)
    for call, message in [
            (lambda: AsymmetricLossSingleLabel(use_sigmoid=True), 'use_sigmoid=False'),
            (lambda: AsymmetricLossSingleLabel(eps=1.0), 'eps=1.0'),
            (lambda: AsymmetricLossSingleLabel(gamma_pos=-1), 'gamma_pos=-1'),
            (lambda: AsymmetricLossSingleLabel(reduction='avg'), "reduction='avg'"),
            (lambda: loss(logits, torch.tensor([0, 4, 1])), 'label 4: labels go from 0 to 3'),
            (lambda: loss(logits, torch.zeros(3, 4)), 'expected logits'),
            (lambda: loss(logits, torch.zeros(3).long(), avg_factor=2., reduction_override='sum'),
             'avg_factor'),
            (lambda: AsymmetricLossSingleLabel(class_weight=[1.0])(logits, torch.zeros(3).long()),
             'class_weight has 1 entries')]:
        with pytest.raises(ValueError, match=message):
            call()
