"""All paths compute one thing: random settings against float64, and the rules for odd input."""

import math
import os
import random

import numpy as np
import pytest
import reference
import torch

from asl_det.losses import AsymmetricLoss, AsymmetricLossSingleLabel

PATHS = ['torch', 'native', 'eager', 'triton']
# Of about 100 inputs each; 160 have every pair of options but one in 170 that more have.
# ASL_DET_RANDOM_SETTINGS=FIRST:END says which for all.
SETTINGS = dict(torch=160, native=160, eager=160, triton=80)
EPS = float(np.finfo(np.float32).eps)
NEAR = 3e-6  # how far a logit may be off for approximate functions where the slope has a pole


@pytest.fixture(params=PATHS)
def impl(request, take_backend):
    """The argument ``impl`` that takes a path."""
    if request.param == 'torch':
        return 'torch'
    take_backend(request.param)
    return 'fused'


class Case:
    """Random settings with a random batch, and what float64 says of them."""

    def __init__(self, seed, float64):
        pick, self.seed = random.Random(seed), seed
        self.numbers = np.random.default_rng(seed)
        gamma = [0, 0.5, 1, 2, 3, 4, pick.uniform(0, 6)]
        self.gamma_pos, self.gamma_neg = pick.choice(gamma), pick.choice(gamma)
        self.clip = pick.choice([0.0, 0.0, 0.05, 0.05, 1e-5, 0.3, 0.9, pick.random() * 0.99])
        self.alpha = pick.choice([None, None, 0.25, pick.random()])
        self.constant = pick.random() < 0.3
        self.loss_weight = pick.choice([1.0, 0.3, 2.0])
        self.reduction = pick.choice(['mean', 'sum', 'none'])
        self.avg_factor = pick.choice([None, 3.5, torch.tensor(7.0)])
        if self.reduction != 'mean':
            self.avg_factor = None
        self.ignore = pick.choice([-1, -1, 255])
        self.cols = pick.choice([1, 2, 3, 5, 16, 20, 33, 80])
        self.rows = max(1, round(100 / self.cols * pick.uniform(0.6, 1.6)))
        self.kind = pick.choice(['index', 'index', 'hot', 'soft', 'pair'])
        self.dtype = pick.choice([torch.float32] * 3 + [torch.float16, torch.bfloat16]
                                 + [torch.float64] * float64)
        self.weight_kind = pick.choice([None, None, 'rows', 'entries', 'flat'])
        self.per_class = pick.random() < 0.3
        self.layout = pick.choice(['rows', 'rows', 'strided', 'columns'])
        self.odd = pick.random() < 0.3
        self._draw(pick)

    def _draw(self, pick):
        shape, rng = (self.rows, self.cols), self.numbers
        x = rng.normal(pick.choice([0, -4, -6]), pick.choice([1, 3, 30]), shape)
        x = torch.from_numpy(x).to(self.dtype)
        labels = torch.from_numpy(rng.integers(0, self.cols + 1, self.rows))
        labels[torch.from_numpy(rng.random(self.rows) < 0.15)] = self.ignore
        one_hot = (labels[:, None] == torch.arange(self.cols)).double()
        known = (labels != self.ignore)[:, None].expand(shape)
        if self.kind == 'index':
            self.target = labels.to(pick.choice([torch.int64, torch.int32]))
            y = one_hot
        elif self.kind == 'pair':
            scores = torch.from_numpy(rng.random(self.rows).astype(np.float32))
            self.target, y = (labels, scores), one_hot * scores[:, None]
        else:
            y = torch.from_numpy((rng.random(shape) < 0.2).astype(np.float32))
            if self.kind == 'soft':
                y = y * torch.from_numpy(rng.random(shape).astype(np.float32))
            known = torch.from_numpy(rng.random(shape) < 0.85)
            y = torch.where(known, y, float(self.ignore))
            fits = pick.choice([torch.float32, torch.float64] + [torch.int64, torch.int16] * (
                self.kind == 'hot'))
            self.target, y = y.to(fits), torch.where(known, y, 0.0)
        weight = torch.ones(shape, dtype=torch.float64)
        self.weight = None
        if self.weight_kind:
            size = (self.rows,) if self.weight_kind == 'rows' else shape
            w = rng.random(size).astype(np.float32) * (rng.random(size) < 0.8)
            w = torch.from_numpy(w.astype(np.float32))
            weight = weight * (w[:, None] if w.dim() == 1 else w)
            self.weight = w.flatten() if self.weight_kind == 'flat' else w
        self.class_weight = None
        if self.per_class:
            self.class_weight = rng.random(self.cols).astype(np.float32).tolist()
            weight = weight * torch.tensor(self.class_weight)
        if self.odd:
            out = ~known | (weight == 0)
            some = torch.from_numpy(rng.random(shape))
            x = torch.where(out & (some < 0.5), math.nan, x)
            x = torch.where(~out & (y == 0) & (some < 0.1), -math.inf, x)
        if self.layout == 'strided':
            x = x.repeat_interleave(2, 1)[:, ::2]
        elif self.layout == 'columns':
            x = x.T.contiguous().T
        self.x, self.y, self.known, self.factor = x, y, known, weight * known * self.loss_weight

    def loss(self, impl):
        return AsymmetricLoss(
            gamma_pos=self.gamma_pos, gamma_neg=self.gamma_neg, clip=self.clip, alpha=self.alpha,
            disable_torch_grad_focal_loss=self.constant, class_weight=self.class_weight,
            reduction=self.reduction, loss_weight=self.loss_weight, ignore_index=self.ignore,
            impl=impl)

    def divisor(self):
        if self.avg_factor is not None:
            return float(self.avg_factor) + EPS
        return max(int(self.known.sum()), 1) if self.reduction == 'mean' else 1.0

    def _definition(self, x, y):
        return reference.asymmetric_loss(x, y, self.gamma_pos, self.gamma_neg, self.clip,
                                         self.alpha, self.constant)

    def expected(self, upstream):
        """Value and gradient, and what their errors are relative to."""
        counts = self.factor != 0
        x = torch.where(counts, self.x.double(), 0.0).nan_to_num(neginf=-120.0).numpy()
        y = self.y.double().numpy()
        value, slope = self._definition(x, y)
        parts = [self._definition(x, np.full_like(x, part))[1] for part in (1.0, 0.0)]
        size = y * abs(parts[0]) + (1 - y) * abs(parts[1])  # the branches cancel
        doubt = np.zeros_like(x)
        if self.clip > 0 and 0 < self.gamma_neg < 1:
            doubt = np.maximum(*(abs(self._definition(x + step, y)[1] - slope)
                                 for step in (-NEAR, NEAR)))
        factor = np.where(counts, self.factor.numpy(), 0)
        value, slope = value * factor, slope * factor
        size, doubt = size * abs(factor), doubt * abs(factor)
        if self.reduction == 'none':
            return (value, slope * upstream, abs(value), size * abs(upstream),
                    doubt * abs(upstream))
        divisor = self.divisor()
        scale = upstream.item() / divisor
        return (value.sum() / divisor, slope * scale, abs(value).sum() / divisor,
                size * abs(scale), doubt * abs(scale))

    def tolerance(self, path, size, slope_size, doubt, upstream):
        """How far value and gradient may be off: the contracts of the paths."""
        if path != 'triton':
            return 3e-5 * size + 1e-30, 3e-5 * slope_size + 1e-30
        factor = abs(np.where(self.factor != 0, self.factor.numpy(), 0))
        if self.reduction == 'none':
            return np.maximum(1e-5 * size, 1e-6 * factor) + 1e-30, \
                np.maximum(1e-5 * slope_size, 1e-6 * factor * abs(upstream)) + doubt + 1e-30
        each = factor / self.divisor()
        # 1e-6 of the sum, and as much again for special functions as rough as documented.
        return max(2e-6 * size, 1e-8 * each.sum()) + 1e-30, \
            np.maximum(1e-5 * slope_size, 1e-6 * each * abs(upstream)) + doubt + 1e-30


@pytest.fixture
def path(request):
    """The name of the path behind ``impl``."""
    return request.node.callspec.params['impl']


def test_random_settings_give_the_float64_definition(impl, path, monkeypatch):
    first, end = os.environ.get('ASL_DET_RANDOM_SETTINGS', f'0:{SETTINGS[path]}').split(':')
    for seed in range(int(first), int(end)):
        if path == 'triton':  # tiles and programs of any size
            pick = random.Random(-seed)
            for name, sizes in (('BLOCK', (64, 1024)), ('PROGRAMS', (1, 2048))):
                monkeypatch.setattr(f'asl_det.losses.backends.triton.{name}', pick.choice(sizes))
        check_random_settings(seed, impl, path)


def check_random_settings(seed, impl, path):
    case = Case(seed, float64=path != 'triton')
    leaf = case.x.detach().requires_grad_()
    value = case.loss(impl)(leaf, case.target, case.weight, avg_factor=case.avg_factor)
    upstream = case.numbers.normal(size=tuple(value.shape))
    value.backward(torch.as_tensor(upstream).to(value))
    expected, slope, size, slope_size, doubt = case.expected(upstream)
    about = f'seed {seed}: {vars(case)}'
    assert np.isfinite(expected).all() and np.isfinite(slope).all(), about
    allowed, slope_allowed = case.tolerance(path, size, slope_size, doubt, upstream)
    np.testing.assert_array_less(abs(value.detach().double().numpy() - expected), allowed, about)
    digits = {torch.float16: 2**-10, torch.bfloat16: 2**-7}.get(case.dtype, 0)
    smallest = 2.0**-24 if case.dtype == torch.float16 else 0
    np.testing.assert_array_less(abs(leaf.grad.double().numpy() - slope),
                                 slope_allowed + digits * slope_size + smallest, about)


def call(impl, logits, target, **kwargs):
    options = {k: kwargs.pop(k) for k in list(kwargs) if k not in ('weight', 'avg_factor')}
    leaf = torch.tensor(logits).requires_grad_()
    value = AsymmetricLoss(impl=impl, reduction='none', **options)(
        leaf, torch.tensor(target), **kwargs)
    value.sum().backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize('odd', [math.nan, math.inf, -math.inf])
def test_what_does_not_count_may_be_anything(impl, odd):
    for target, weight in [([[-1.0, 1.0]], None), ([[0.0, 1.0]], [[0.0, 1.0]]),
                           ([[1.0, 1.0]], [[0.0, 1.0]])]:
        weight = None if weight is None else torch.tensor(weight)
        value, grad = call(impl, [[odd, 0.5]], target, weight=weight)
        assert value[0, 0] == 0 and grad[0, 0] == 0
        assert value[0, 1] > 0 and grad[0, 1] < 0
    value, grad = call(impl, [[odd, odd], [0.0, 1.0]], [-1, 0])
    assert (value[0] == 0).all() and (grad[0] == 0).all() and grad[1].isfinite().all()


@pytest.mark.parametrize('gamma', [0.0, 2.0, 2.5])
@pytest.mark.parametrize('clip', [0.0, 0.05])
def test_infinite_logits(impl, clip, gamma):
    """Masked classes (-inf) cost nothing as negatives; what is as wrong as can be costs inf."""
    options = dict(gamma_neg=gamma, gamma_pos=gamma, clip=clip)
    value, grad = call(impl, [[-math.inf, math.inf]], [[0.0, 1.0]], **options)
    assert (value.abs() < 1e-30).all() and (grad.abs() < 1e-30).all()
    value, grad = call(impl, [[-math.inf]], [[1.0]], **options)
    assert value == math.inf and float(grad) == pytest.approx(-1, rel=1e-6)
    value, grad = call(impl, [[math.inf]], [[0.0]], **options)
    if clip:
        assert value == pytest.approx(0.95**gamma * -math.log(0.05), rel=1e-5) and abs(grad) < 1e-30
    else:
        assert value == math.inf and float(grad) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_are_those_of_its_float32_values(impl, dtype):
    logits = (torch.randn(300, 30) - 4).to(dtype)
    target = torch.randint(0, 31, (300,))
    found = []
    for x in (logits, logits.float()):
        loss = AsymmetricLoss(impl=impl)
        loss.want_statistics = True
        loss(x, target)
        found.append([float(s) for s in loss.statistics])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_an_ignored_value_that_is_a_class_is_refused(impl):
    loss = AsymmetricLoss(impl=impl, ignore_index=255)
    loss(torch.zeros(2, 254), torch.tensor([3, 255]))
    for classes in (255, 1203):
        with pytest.raises(ValueError, match=f'ignore_index=255 is a label of these {classes}'):
            loss(torch.zeros(2, classes), torch.tensor([3, 255]))
    assert loss(torch.zeros(2, 1203), torch.zeros(2, 1203)) > 0  # no labels


def test_a_class_index_that_is_no_whole_number_is_refused(impl):
    for target in (torch.tensor([2.0]), (torch.tensor([2.7]), torch.tensor([0.5]))):
        with pytest.raises(ValueError, match='class indices are integers'):
            AsymmetricLoss(impl=impl)(torch.zeros(1, 4), target)


@pytest.mark.parametrize('make', [AsymmetricLoss, AsymmetricLossSingleLabel])
@pytest.mark.parametrize('name, value', [
    ('gamma_neg', '2'), ('gamma_neg', None), ('gamma_pos', [1.0]), ('gamma_pos', True),
    ('loss_weight', '1'), ('ignore_index', -1.5), ('ignore_index', None),
    ('class_weight', 'heavy')])
def test_arguments_of_another_type_are_named(make, name, value):
    with pytest.raises((TypeError, ValueError), match=f'^{name}=.*expected'):
        make(**{name: value})


@pytest.mark.parametrize('make', [AsymmetricLoss, AsymmetricLossSingleLabel])
def test_what_is_no_tensor_is_named(make):
    loss, x, y = make(), torch.zeros(2, 3), torch.tensor([0, 1])
    for name, args in [('pred', ([[0.0]], y)), ('pred', (None, y)), ('pred', (x.long(), y)),
                       ('target', (x, None)), ('target', (x, 'one')),
                       ('weight', (x, y, [1.0, None])), ('weight', (x, y, 'no'))]:
        with pytest.raises(TypeError, match=f'^{name} .*expected'):
            loss(*args)


@pytest.mark.parametrize('shape', [(3, 2), (1, 6), (6, 1), (2,), (5,)])
def test_a_weight_of_another_shape_is_refused(impl, shape):
    with pytest.raises(ValueError, match='weight has shape'):
        AsymmetricLoss(impl=impl)(torch.zeros(1, 2, 3), torch.zeros(1, 2).long(),
                                  torch.ones(shape))


@pytest.mark.parametrize('gamma_neg', [0.0, 4.0])
def test_masked_classes_take_no_share_of_the_label_smoothing(gamma_neg):
    logits = torch.randn(5, 4)
    logits[:, 2] = -math.inf
    leaf = logits.clone().requires_grad_()
    loss = AsymmetricLossSingleLabel(gamma_neg=gamma_neg, eps=0.1)(leaf, torch.tensor([0, 1, 3, 0,
                                                                                      1]))
    loss.backward()
    assert loss.isfinite() and leaf.grad.isfinite().all() and (leaf.grad[:, 2] == 0).all()
    log_p = logits.double().log_softmax(1)
    others = torch.exp(gamma_neg * log_p) * log_p
    others[:, 2] = 0
    label = torch.nn.functional.one_hot(torch.tensor([0, 1, 3, 0, 1]), 4).bool()
    expected = -(0.925 * log_p[label] + 0.025 * torch.where(label, 0, others).sum(1))
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-5)
