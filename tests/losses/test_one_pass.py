"""The paths with value and gradient in one pass against the definition."""

import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from processes import python

from asl_det.losses import AsymmetricLoss, asymmetric_loss, one_pass
from asl_det.losses.backends import eager, native
from asl_det.losses.backends.building import X86_64
from asl_det.losses.targets import dense_targets
from asl_det.losses.types import Batch

BACKENDS = ['native', 'eager', 'triton']


@pytest.fixture(params=BACKENDS)
def backend(request, take_backend):
    """Every backend in turn behind impl='fused'."""
    take_backend(request.param)
    return request.param


def random_batch(kind, rows=37, cols=21, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, cols, generator=generator) * 4 - 2).to(dtype)
    labels = torch.randint(0, cols + 1, (rows,), generator=generator)
    labels[::5] = -1
    if kind == 'index':
        return logits, labels
    hot = (torch.rand(rows, cols, generator=generator) < 0.15).float()
    if kind == 'soft':
        hot *= torch.rand(rows, cols, generator=generator)
    hot[torch.rand(rows, cols, generator=generator) < 0.1] = -1
    return logits, hot.long() if kind == 'multi-hot' else hot


def assert_within(found, expected, relative, absolute):
    """The one or the other, entry by entry."""
    error = abs(found.double().numpy() - expected)
    np.testing.assert_array_less(error, np.maximum(relative * abs(expected), absolute) * (1 + 1e-9))


def loss_and_grad(loss, logits, target, upstream_seed=7, **kwargs):
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target, **kwargs)
    generator = torch.Generator().manual_seed(upstream_seed)
    (value * torch.randn(value.shape, generator=generator).to(value)).sum().backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize('constant', [False, True])
@pytest.mark.parametrize('clip', [0, 1e-6, 0.05, 0.999])
@pytest.mark.parametrize('gamma', [0, 0.5, 1, 2, 3, 4, 5.5])
def test_value_and_gradient_equal_the_float64_definition(backend, gamma, clip, constant):
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.rand(400, generator=generator) * 240 - 120,
                   torch.randn(400, generator=generator) * 4,
                   torch.tensor([0.0, 120, -120, -30])])[None]
    if clip:
        next_to = math.log(clip / (1 - clip)) + torch.logspace(-4, 0, 50)
        x = torch.cat([x, next_to[None]], 1)
    loss = AsymmetricLoss(gamma_pos=gamma, gamma_neg=gamma, clip=clip, impl='fused',
                          disable_torch_grad_focal_loss=constant, reduction='none')
    for target in (0.0, 1.0, 0.3):
        y = torch.full_like(x, target)
        leaf = x.clone().requires_grad_()
        value = loss(leaf, y)
        value.sum().backward()
        expected, slope = reference.asymmetric_loss(x.double(), y.double(), gamma, gamma, clip,
                                                    constant_weight=constant)
        tiny = 1e-6 if backend == 'triton' else 1e-30  # the contract of the path
        assert_within(value.detach(), expected, 1e-5, tiny)
        # The branches of a soft target cancel.
        assert_within(leaf.grad, slope, 1e-5, 2e-6 if target == 0.3 else tiny)


@pytest.mark.parametrize('kind', ['index', 'multi-hot', 'soft'])
@pytest.mark.parametrize('reduction, avg_factor', [
    ('mean', None), ('mean', 7.5), ('mean', torch.tensor(3.0)), ('sum', None), ('none', None)])
@pytest.mark.parametrize('options', [
    dict(), dict(alpha=0.25, gamma_pos=1.0, loss_weight=1.5),
    dict(class_weight=torch.linspace(0, 2, 21), clip=0.0, gamma_neg=1.7)])
@pytest.mark.parametrize('weight', [None, 'rows', 'entries', 'flat'])
def test_every_call_equals_the_plain_path(backend, kind, reduction, avg_factor, options, weight):
    logits, target = random_batch(kind)
    shape = {'rows': (37,), 'entries': (37, 21), 'flat': (37 * 21,)}.get(weight)
    weights = None if shape is None else torch.rand(shape) * (torch.rand(shape) < 0.7)
    results = [
        loss_and_grad(AsymmetricLoss(reduction=reduction, impl=impl, **options), logits, target,
                      weight=weights, avg_factor=avg_factor) for impl in ('fused', 'torch')]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6)
        assert b.abs().sum() > 0


@pytest.mark.parametrize('kind', ['index', 'soft'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_no_worse_than_the_plain_path(backend, kind, dtype):
    if backend == 'triton' and dtype == torch.float64:
        pytest.skip('float64 takes another path')
    logits, target = random_batch(kind, dtype=dtype)
    exact = loss_and_grad(AsymmetricLoss(impl='torch'), logits.double(), target)
    plain = loss_and_grad(AsymmetricLoss(impl='torch'), logits, target)
    ours = loss_and_grad(AsymmetricLoss(impl='fused'), logits, target)
    assert ours[0].dtype == plain[0].dtype and ours[1].dtype == dtype
    for mine, theirs, right in zip(ours, plain, exact, strict=True):
        error = (mine.double() - right).abs().max()
        allowed = (theirs.double() - right).abs().max()
        # Triton's interpreter cuts bfloat16 off where a GPU rounds.
        slack = 2.02 if backend == 'triton' and dtype == torch.bfloat16 else 1.01
        assert error <= slack * allowed + 1e-7 * right.abs().max()


def test_many_small_and_large_shapes(backend):
    for rows, cols in [(1, 1), (3, 1), (1, 16), (5, 17), (2, 80), (300, 33), (0, 4), (4, 0)]:
        logits = torch.randn(rows, cols) * 3
        target = torch.randint(0, cols + 1, (rows,))
        results = [loss_and_grad(AsymmetricLoss(reduction='sum', impl=impl), logits, target)
                   for impl in ('fused', 'torch')]
        torch.testing.assert_close(results[0], results[1], rtol=2e-5, atol=1e-6)


def test_logits_of_any_layout_and_rank(backend):
    logits, target = random_batch('soft')
    expected = AsymmetricLoss(impl='torch')(logits, target)
    loss = AsymmetricLoss(impl='fused')
    wide = logits.repeat_interleave(2, 1)[:, ::2]
    for x, y in [(wide, target), (logits.T.contiguous().T, target), (logits[None], target[None]),
                 (logits.flatten(), target.flatten())]:
        torch.testing.assert_close(loss(x, y), expected, rtol=2e-5, atol=1e-6)


def test_an_unwritten_entry_would_show(backend, monkeypatch):
    """Fresh memory is filled with NaN, so that a lane that is skipped fails."""
    fresh = torch.empty_like
    monkeypatch.setattr(torch, 'empty_like',
                        lambda *a, **k: fresh(*a, **k).fill_(float('nan')))
    for kind in ('index', 'soft'):
        logits, target = random_batch(kind, rows=70, cols=19)
        logits[5] = -50  # a row under the margin
        for reduction in ('sum', 'none'):
            loss = AsymmetricLoss(reduction=reduction, impl='fused')
            value, grad = loss_and_grad(loss, logits, target, weight=torch.ones(70))
            assert value.isfinite().all() and grad.isfinite().all()


def test_not_a_number_is_never_hidden(backend):
    for target in (torch.tensor([3, 3]), torch.tensor([0, 3]), torch.zeros(2, 3)):
        logits = torch.full((2, 3), -9.0)
        logits[1, 1] = math.nan
        value, grad = loss_and_grad(AsymmetricLoss(impl='fused'), logits, target)
        assert value.isnan() and grad[1, 1].isnan() and grad[0].isfinite().all()


def test_a_retained_graph_gives_the_same_gradient_again(backend):
    logits, target = random_batch('index')
    leaf = logits.requires_grad_()
    loss = AsymmetricLoss(impl='fused')(leaf, target)
    first, = torch.autograd.grad(loss, leaf, retain_graph=True)
    kept = first.clone()
    second, = torch.autograd.grad(3 * loss, leaf)
    torch.testing.assert_close(second, 3 * kept)
    assert torch.equal(first, kept)


def test_a_second_derivative_is_refused(backend):
    logits, target = random_batch('index')
    leaf = logits.requires_grad_()
    for reduction in ('mean', 'none'):
        loss = AsymmetricLoss(impl='fused', reduction=reduction)(leaf, target).sum()
        with pytest.raises(RuntimeError, match="no second derivative.*impl='torch'"):
            torch.autograd.grad(loss, leaf, create_graph=True)


def test_a_loss_scale_saves_small_half_precision_gradients(backend):
    logits = torch.full((4, 4), -6.0, dtype=torch.float16, requires_grad=True)
    loss = AsymmetricLoss(impl='fused', gamma_neg=2, clip=0)(
        logits, torch.full((4,), 4), avg_factor=10)
    (2.0**16 * loss).backward()
    exact = torch.full((4, 4), -6.0, requires_grad=True)
    AsymmetricLoss(impl='torch', gamma_neg=2, clip=0)(
        exact, torch.full((4,), 4), avg_factor=10).backward()
    assert exact.grad.half().abs().max() < 6e-8  # unscaled, it rounds to zero or nearly
    torch.testing.assert_close(logits.grad.float(), 2.0**16 * exact.grad, rtol=2e-3, atol=0)


def test_weights_that_need_a_gradient_get_one_or_an_error():
    logits, target = random_batch('soft')
    weight = torch.rand(37, requires_grad=True)
    AsymmetricLoss()(logits, target, weight).backward()
    assert weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="gives no gradient to targets or weights"):
        AsymmetricLoss(impl='fused')(logits, target, weight)


def test_statistics_of_the_pass_equal_those_of_the_definition(backend):
    for kind in ('index', 'soft'):
        logits, target = random_batch(kind)
        weight = (torch.arange(37) % 3 > 0).float()
        loss = AsymmetricLoss(impl='fused')
        assert loss.statistics is None
        loss.want_statistics = True
        value = loss(logits.requires_grad_(), target, weight)
        torch.testing.assert_close(
            value, AsymmetricLoss(impl='torch')(logits, target, weight), rtol=2e-5, atol=1e-6)
        y, known = dense_targets(target, logits, -1)
        counted = known & (weight > 0)[:, None]
        p = logits.detach().sigmoid()
        positive, negative = counted & (y > 0.5), counted & (y <= 0.5)
        expected = [p[positive].sum(), p[negative].sum(), positive.sum(), negative.sum(),
                    (negative & (p <= 0.05)).sum()]
        assert all(float(e) > 0 for e in expected)
        for ours, right in zip(loss.statistics, expected, strict=True):
            assert float(ours) == pytest.approx(float(right), rel=1e-5)
            assert not ours.requires_grad


@pytest.mark.parametrize('target, message', [
    (torch.tensor([0, 9, 1]), r'class index 9 at position \[1\]: expected 0 to 4'),
    (torch.tensor([0, 1, -3]), r'class index -3 at position \[2\]'),
    (torch.tensor([[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 7]]), r'target 2 at position \[1, 2\]'),
    (torch.full((3, 4), math.nan), r'target nan at position \[0, 0\]')])
def test_targets_out_of_range_are_named(backend, target, message):
    with pytest.raises(ValueError, match=message):
        AsymmetricLoss(impl='fused')(torch.zeros(3, 4), target)


def test_bad_targets_in_a_later_chunk_are_named(backend, monkeypatch):
    monkeypatch.setattr(eager, 'CHUNK', 8)
    target = torch.zeros(9, 4, dtype=torch.bfloat16)
    target[7, 2] = 3
    with pytest.raises(ValueError, match=r'target 3 at position \[7, 2\]'):
        AsymmetricLoss(impl='fused')(torch.zeros(9, 4), target)


def test_chunks_and_threads_change_nothing(monkeypatch):
    logits, target = random_batch('index', rows=4001, cols=80)
    weight = torch.rand(4001)
    expected = loss_and_grad(AsymmetricLoss(impl='torch'), logits, target, weight=weight)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            for x in (logits, logits.repeat_interleave(2, 1)[:, ::2]):  # one piece, and chunks
                found = loss_and_grad(AsymmetricLoss(impl='fused'), x, target, weight=weight)
                torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-9)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize('share', [0.001, 0.02, 0.2, 0.6, 1.0])
def test_any_share_of_entries_over_the_margin(backend, share):
    """The compiled path collects lone entries and takes full blocks at once."""
    generator = torch.Generator().manual_seed(3)
    over = torch.rand(53, 83, generator=generator) < share
    logits = torch.where(over, 1.0, -6.0) + torch.randn(53, 83, generator=generator) * 0.5
    labels = torch.randint(0, 84, (53,), generator=generator)
    weight = torch.rand(53, 83, generator=generator)
    for options in (dict(), dict(weight=weight), dict(weight=weight[:, 0])):
        for reduction in ('sum', 'none'):
            results = [loss_and_grad(AsymmetricLoss(impl=impl, reduction=reduction), logits,
                                     labels, **options) for impl in ('fused', 'torch')]
            torch.testing.assert_close(results[0], results[1], rtol=2e-5, atol=1e-6)


def test_gammas_that_change_from_step_to_step_are_followed(backend):
    logits, target = random_batch('index')
    loss = AsymmetricLoss(impl='fused', reduction='sum')
    for gamma in (4.0, 3.97, 3.0):
        loss.gamma_neg = torch.tensor(gamma)
        expected = asymmetric_loss(logits, target, gamma_pos=0, gamma_neg=gamma, clip=0.05).sum()
        torch.testing.assert_close(loss(logits, target), expected, rtol=2e-5, atol=1e-6)


def test_nothing_is_kept_after_a_step(backend):
    """A gradient is the one full-size tensor that a step makes, and it is handed over."""
    logits, target = random_batch('index', rows=64, cols=16)
    leaf = logits.requires_grad_()
    loss = AsymmetricLoss(impl='fused')(leaf, target)
    node = loss.grad_fn
    while not hasattr(node, 'grad'):
        node = node.next_functions[0][0]
    made = node.grad.data_ptr()
    loss.backward()
    assert node.grad is None
    if backend != 'triton':  # the interpreter copies
        assert leaf.grad.data_ptr() == made
    with torch.no_grad():
        assert AsymmetricLoss(impl='fused')(leaf, target).grad_fn is None


def choose(impl, logits):
    return one_pass.choose_backend(impl, logits, Batch(torch.zeros(len(logits))))


def test_named_paths_run_or_raise(monkeypatch):
    assert choose('fused', torch.zeros(1, 1, dtype=torch.float64)) == 'eager'
    monkeypatch.setattr(native, 'is_available', lambda: False)
    assert choose('auto', torch.zeros(1, 1)) == 'eager'
    triton = pytest.importorskip('asl_det.losses.backends.triton')
    monkeypatch.setattr(triton, 'INTERPRETED', False)
    with pytest.raises(RuntimeError, match="impl='triton' can not run: it needs CUDA logits"):
        AsymmetricLoss(impl='triton')(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="impl='cuda': expected"):
        AsymmetricLoss(impl='cuda')


@pytest.mark.parametrize('variant', X86_64)
def test_the_compiled_pass_is_right_in_every_variant_of_a_wheel(tmp_path, variant):
    flags = X86_64[variant]
    needed = {flag.removeprefix('-m') for flag in flags if '=' not in flag}
    if not shutil.which('cc') or not needed <= set(native._processor().split()):
        pytest.skip('it can not be built or run here')
    code = f'''
import torch
from asl_det.losses import AsymmetricLoss
from asl_det.losses.backends import native
native.NATIVE = [{flags}]
for clip in (0.05, 0.0):
    for target in (torch.randint(0, 51, (400,)), (torch.rand(400, 50) < 0.1).float()):
        found = []
        for impl in ("fused", "torch"):
            x = (torch.randn(400, 50, generator=torch.Generator().manual_seed(1)) * 3 - 4)
            x.requires_grad_()
            loss = AsymmetricLoss(impl=impl, clip=clip, gamma_neg=2.5)(x, target)
            loss.backward()
            found.append((loss.detach(), x.grad))
        torch.testing.assert_close(*found, rtol=2e-5, atol=1e-9)
print("same")
'''
    out = python('-c', code, env=dict(os.environ, XDG_CACHE_HOME=str(tmp_path),
                                      ASL_DET_NATIVE='build'))
    assert out.stdout.strip() == 'same', out.stderr
    assert list(tmp_path.rglob('*.so'))


@pytest.mark.parametrize('environment, reason', [
    (dict(ASL_DET_NATIVE='0'), 'ASL_DET_NATIVE=0'), (dict(PATH=''), 'no C compiler'),
    (dict(CC=sys.executable), 'does not compile')])
def test_without_a_compiled_path_the_loss_still_runs(tmp_path, environment, reason):
    code = ('import torch; from asl_det.losses import AsymmetricLoss; '
            'from asl_det.losses.backends import native\n'
            'print(AsymmetricLoss(impl="fused")(torch.zeros(1, 2), torch.zeros(1, 2)).item())\n'
            'try: native.library()\nexcept native.Unavailable as e: print(e)')
    environment = dict(dict(ASL_DET_NATIVE='build'), **environment)
    out = python('-c', code, env=dict(os.environ, XDG_CACHE_HOME=str(tmp_path), **environment))
    value, message = out.stdout.strip().split('\n', 1)
    expected = asymmetric_loss(torch.zeros(2), torch.zeros(2), gamma_pos=0, gamma_neg=4, clip=0.05)
    assert float(value) == pytest.approx(expected.mean().item(), rel=1e-5)
    assert reason in message
    assert not list(Path(tmp_path).rglob('*.so'))
