"""The loss where people run it: other defaults, devices, threads, transforms and caches."""

import os
import shutil
import weakref

import pytest
import torch
from processes import python
from torch._subclasses import FakeTensorMode

from asl_det.losses import AsymmetricLoss, one_pass
from asl_det.losses.backends import building, eager, native
from asl_det.losses.types import Batch

needs_native = pytest.mark.skipif(not native.is_available(), reason='there is no C compiler')
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ('cc', 'gcc', 'clang'))),
                                    reason='there is no C compiler')


def batch(rows=40, cols=7, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(rows, cols, generator=generator) * 3).to(dtype)
    return logits, torch.randint(0, cols + 1, (rows,), generator=generator)


def value_and_grad(loss, logits, target, **kwargs):
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target, **kwargs)
    value.sum().backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize('logits_dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('default', [torch.float64, torch.bfloat16, torch.float16])
def test_another_default_dtype_changes_nothing(default, logits_dtype):
    logits, target = batch(dtype=logits_dtype)
    weight = torch.rand(40)
    calls = [(impl, reduction) for impl in ('auto', 'fused', 'torch') for reduction in
             ('mean', 'none')]

    def run():
        return [value_and_grad(AsymmetricLoss(impl=impl, reduction=reduction), logits, target,
                               weight=weight) for impl, reduction in calls]

    expected = run()
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = run()
    finally:
        torch.set_default_dtype(before)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_another_default_device_changes_nothing():
    logits, target = batch()
    loss = AsymmetricLoss(class_weight=[1.0] * 7)
    loss.want_statistics = True
    expected = value_and_grad(loss, logits, target)
    for impl in ('auto', 'torch'):
        loss.impl = impl
        with torch.device('meta'):
            found = value_and_grad(loss, logits, target)
            assert all(t.device.type == 'cpu' for t in loss.statistics)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('impl', ['auto', 'torch', 'fused'])
@pytest.mark.parametrize('name', ['target', 'weight'])
def test_a_tensor_on_another_device_is_named(impl, name):
    logits, target = batch()
    inputs = dict(target=target, weight=torch.ones(40))
    inputs[name] = inputs[name].to('meta')
    with pytest.raises(ValueError, match=f'{name} is on meta, but pred is on cpu: move it'):
        AsymmetricLoss(impl=impl)(logits, **inputs)


@needs_native
def test_every_dtype_and_layout_is_one_call_that_threads_share(monkeypatch):
    """No copy of a whole tensor, and no loop over pieces, in front of the compiled pass."""
    monkeypatch.setattr(native, 'PARALLEL_FROM', 1)
    shared = []
    parallel = native._parallel
    monkeypatch.setattr(native, '_parallel', lambda run, tiles, entries: shared.append(tiles)
                        or parallel(run, tiles, entries))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for rows, cols in ((1, 5000), (3000, 1), (700, 20), (90, 80), (2, 3000)):
            wide = torch.randn(rows, cols) * 3
            hot = (torch.rand(rows, cols) < 0.2).to(torch.int8)
            expected = value_and_grad(AsymmetricLoss(impl='torch'), wide, hot)
            strided = wide.repeat_interleave(2, 1)[:, ::2]
            for x in (wide, strided, wide.T.contiguous().T):
                for y in (hot, hot.bool(), hot.long(), hot.double(), hot.half(),
                          hot.T.contiguous().T):
                    shared.clear()
                    found = value_and_grad(AsymmetricLoss(impl='fused'), x, y)
                    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-8)
                    assert len(shared) == 1 and shared[0] > 1
    finally:
        torch.set_num_threads(threads)


@needs_native
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_read_and_rounded_as_torch_does(dtype):
    """All 65,536 numbers through the loss at gamma 0, and every gradient to the nearest."""
    every = torch.arange(-2**15, 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()].reshape(-1, 16)
    loss = AsymmetricLoss(impl='fused', gamma_neg=0, clip=0, reduction='sum')
    target = torch.zeros(every.shape)
    scale = 2.0**torch.arange(-24, 9, 4).float()
    for factor in scale:  # through the subnormal numbers to infinity
        leaf = every.clone().requires_grad_()
        loss(leaf, target).backward(factor)
        wide = every.float().requires_grad_()
        loss(wide, target).backward(factor)
        assert torch.equal(leaf.grad, wide.grad.to(dtype))


def test_no_gradient_is_made_where_none_is_wanted(monkeypatch):
    wanted = []
    run = one_pass.run
    monkeypatch.setattr(one_pass, 'run', lambda *a, **k: wanted.append(k['want_grad']) or
                        run(*a, **k))
    logits, target = batch()
    leaf = logits.requires_grad_()
    with torch.no_grad():
        AsymmetricLoss(impl='fused')(leaf, target)
    AsymmetricLoss(impl='fused')(leaf.detach(), target)
    AsymmetricLoss(impl='fused')(leaf, target)
    assert wanted == [False, False, True]


@pytest.mark.parametrize('changed', ['target', 'weight'])
@pytest.mark.parametrize('reduction, dtype', [('none', torch.float32), ('mean', torch.float16)])
def test_a_target_changed_in_place_before_the_backward_pass_is_refused(changed, reduction, dtype):
    logits, _ = batch(dtype=dtype)
    inputs = dict(target=torch.zeros(40, 7), weight=torch.ones(40, 7))
    loss = AsymmetricLoss(impl='fused', reduction=reduction)(logits.requires_grad_(), **inputs)
    inputs[changed].fill_(0.5)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        loss.sum().backward()


def test_a_gradient_that_is_made_already_is_that_of_the_forward_pass():
    logits, target = batch()
    expected = value_and_grad(AsymmetricLoss(impl='fused'), logits, target)[1]
    leaf, labels = logits.clone().requires_grad_(), target.clone()
    loss = AsymmetricLoss(impl='fused')(leaf, labels)
    labels.zero_()
    loss.backward()
    assert torch.equal(leaf.grad, expected)


@pytest.mark.parametrize('reduction', ['mean', 'none'])
def test_targets_are_freed_by_the_backward_pass_while_the_loss_is_kept(reduction):
    logits, target = batch()
    loss = AsymmetricLoss(impl='fused', reduction=reduction)(logits.requires_grad_(), target)
    alive = weakref.ref(target)
    loss.sum().backward()
    del target
    assert alive() is None and loss.isfinite().all()


def test_functional_transforms_take_the_definition():
    logits, target = batch()
    auto, plain = AsymmetricLoss(), AsymmetricLoss(impl='torch')
    expected = value_and_grad(plain, logits, target)[1]
    torch.testing.assert_close(torch.func.grad(auto)(logits, target), expected)
    rows = torch.func.vmap(lambda x, y: auto(x, y))(logits, torch.eye(40)[:, :7])
    assert rows.shape == (40,)
    torch.testing.assert_close(rows.mean(), plain(logits, torch.eye(40)[:, :7]))


@pytest.mark.parametrize('reduction, avg_factor', [('mean', None), ('mean', 3.0), ('none', None)])
def test_a_gradient_can_be_differentiated(reduction, avg_factor):
    logits, target = batch(rows=6, dtype=torch.float64)
    target[2] = -1
    weight = torch.rand(6, dtype=torch.float64)
    found = []
    for impl in ('auto', 'torch'):
        loss = AsymmetricLoss(impl=impl, reduction=reduction)
        x = logits.clone().requires_grad_()
        value = loss(x, target, weight, avg_factor=avg_factor)
        first, = torch.autograd.grad(value.square().sum(), x, create_graph=True)
        second, = torch.autograd.grad(first.square().sum(), x)
        assert second.abs().sum() > 0
        found.append((first.detach(), second))
    torch.testing.assert_close(*found)


def test_an_accelerator_is_given_one_large_operation(monkeypatch):
    monkeypatch.setattr(eager, 'CHUNK', 8)
    pieces = []
    chunk = eager._chunk
    monkeypatch.setattr(eager, '_chunk', lambda logits, *a: pieces.append(len(logits)) or
                        chunk(logits, *a))
    kwargs = dict(impl='fused', check_targets=False)
    AsymmetricLoss(**kwargs)(torch.zeros(6, 4, dtype=torch.float64), torch.zeros(6, 4))
    assert pieces == [2, 2, 2]
    pieces.clear()
    AsymmetricLoss(**kwargs)(torch.zeros(6, 4, device='meta'), torch.zeros(6, 4, device='meta'))
    assert pieces == [6]


def test_auto_falls_back_once_where_triton_can_not_compile(monkeypatch):
    """As in a slim image: Triton is there, and finds no C compiler when a kernel starts."""
    pytest.importorskip('triton.backends')  # as old, torch makes no CUDA tensor without a driver
    triton = pytest.importorskip('asl_det.losses.backends.triton')
    tried = []

    def broken(*args, **kwargs):
        tried.append(1)
        raise RuntimeError('Failed to find C compiler. Please specify via CC environment variable.')

    monkeypatch.setattr(triton, 'one_pass', broken)
    triton.problem.cache_clear()
    one_pass.warn_once.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):  # CUDA tensors without CUDA
            logits = torch.empty(4, 3, device='cuda')
            beside = Batch(torch.empty(4, 3, device='cuda'))
            with pytest.warns(UserWarning, match='Failed to find C compiler') as seen:
                assert [one_pass.choose_backend('auto', logits, beside) for _ in range(3)] \
                    == ['eager'] * 3
            with pytest.raises(RuntimeError, match="impl='triton' can not run: .*C compiler"):
                one_pass.choose_backend('triton', logits, beside)
        assert len(tried) == 1 and len(seen) == 1
    finally:
        triton.problem.cache_clear()


@needs_compiler
@pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no users')
@pytest.mark.parametrize('what', ['folder', 'file', 'link'])
def test_a_library_that_others_could_have_written_is_not_loaded(tmp_path, what):
    code = ('from asl_det.losses.backends import native\n'
            'native.COMPILE[0] = "-O0"  # sooner built\n'
            'try: print(native.library()._name)\n'
            'except native.Unavailable as e: print("refused", e)')
    environment = dict(os.environ, XDG_CACHE_HOME=str(tmp_path), ASL_DET_NATIVE='build')

    def load():
        result = python('-c', code, env=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    library, = [load()]
    assert library.startswith(str(tmp_path / 'asl_det'))
    if what == 'folder':
        (tmp_path / 'asl_det').chmod(0o777)
        assert load().startswith('refused') and 'chmod 700' in load()
        return
    if what == 'file':
        os.chmod(library, 0o666)
    else:
        os.rename(library, tmp_path / 'elsewhere.so')
        os.symlink(tmp_path / 'elsewhere.so', library)
    with open(tmp_path / 'elsewhere.so' if what == 'link' else library, 'wb') as file:
        file.write(b'not a library')
    assert load() == library  # built anew
    assert not os.path.islink(library) and os.stat(library).st_mode & 0o077 == 0


@needs_compiler
def test_the_library_of_a_wheel_needs_no_compiler_and_no_home(tmp_path, monkeypatch):
    """Found beside its sources by their hash, and by what the processor can do."""
    monkeypatch.setattr(native, 'COMPILE', ['-O0', '-fPIC'])
    monkeypatch.setattr(native, 'NATIVE', [[]])
    monkeypatch.setattr(native, '__file__', str(tmp_path / 'native.py'))
    native._build(shutil.which('cc'), native.shipped())
    code = ('import torch\n'
            'from asl_det.losses import AsymmetricLoss\n'
            'from asl_det.losses.backends import native\n'
            f'native.__file__ = {native.__file__!r}\n'
            'print(AsymmetricLoss(impl="fused")(torch.zeros(1, 2), torch.zeros(1, 2)) > 0)\n'
            'print(native.library()._name, native.shipped())')
    result = python('-c', code, env=dict(os.environ, PATH='', XDG_CACHE_HOME='/proc/none'))
    library, = tmp_path.glob('*.so')
    assert result.stdout == f'tensor(True)\n{library} {library}\n', result.stderr
    monkeypatch.setattr(building, 'SOURCES', building.SOURCES[:1])
    assert not native.shipped().exists()  # of other sources
