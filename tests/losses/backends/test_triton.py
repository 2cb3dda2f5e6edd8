"""The kernels without a GPU: what they compile to, and what a step starts.

What they compute is checked beside the other paths, in test_agreement.py and test_one_pass.py.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from asl_det.losses import AsymmetricLoss, one_pass

pytest.importorskip('triton.backends')
from asl_det.losses.backends import triton as backend  # noqa: E402
from asl_det.losses.backends import triton_kernels as kernels  # noqa: E402

COMPILE = '''
import torch
from kernel_budget import CASES, CHIPS, count, faults
from asl_det.losses.backends import triton as backend

found = {}

def check(chip, *names):
    for name in names:
        found[name] = count(CASES[name], CHIPS[chip])
        assert not faults(CASES[name], found[name]), (chip, name, found[name])
        print(chip, name)

if torch.version.cuda is None:
    backend.FAST = True
check('A100', 'index-80')
check('H100', 'index-80-bf16-gamma-2', 'index-1203')
for case, other in (('index-80', 'statistics'), ('dense', 'statistics-dense')):
    check('H100', case, other)
    assert found[other].instructions - found[case].instructions <= 15, found
check('B200', 'index-80-bf16')
backend.FAST = False
portable = count(CASES['index-80'], CHIPS['H100'])
print(faults(CASES['index-80'], portable))
'''


def test_the_machine_code_of_the_kernels_keeps_to_its_budget(tmp_path):
    """Also that a kernel over its budget would be found: the form without NVIDIA's instructions."""
    script = tmp_path / 'compile_kernels.py'
    script.write_text(COMPILE)
    paths = [os.path.abspath('tools'), os.environ.get('PYTHONPATH', '')]
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path),
                       PYTHONPATH=os.pathsep.join(filter(None, paths)))
    environment.pop('TRITON_INTERPRET', None)
    result = subprocess.run([sys.executable, '-W', 'ignore', str(script)], capture_output=True,
                            text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(result.stdout.splitlines()) == 9 and 'over 40 instructions' in result.stdout


class Operations(TorchDispatchMode):
    """Counts what is asked of torch; views cost a GPU nothing."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view and function is not torch.ops.prim.device.default:
            self.count[function._schema.name[6:]] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def fake_gpu(monkeypatch):
    """A function that makes CUDA tensors without CUDA, which can not be read, and the launches."""
    launched = []
    monkeypatch.setattr(backend, 'start', launched.append)
    monkeypatch.setattr(backend, 'problem', lambda device: None)
    monkeypatch.setattr(backend, '_stream', lambda device: 0)
    backend._done.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda *shape, dtype=torch.float32: torch.zeros(
            shape, dtype=dtype, device='cuda'), launched
    backend._done.cache_clear()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('case', ['mean', 'number', 'tensor', 'statistics', 'dense', 'none'])
def test_a_step_never_waits_for_the_gpu_and_starts_two_kernels(fake_gpu, case, dtype):
    """Reading a fake tensor, which has no values, is an error, as it were to wait for a GPU."""
    make, launched = fake_gpu
    loss = AsymmetricLoss(reduction='none' if case == 'none' else 'mean')
    loss.class_weight = make(80)
    loss.want_statistics = case == 'statistics'
    logits = make(128, 80, dtype=dtype).requires_grad_()
    target = make(128, 80) if case == 'dense' else make(128, dtype=torch.int64)
    avg_factor = dict(number=7.0, tensor=make()).get(case)
    backend._done(logits.device, 0)  # once a stream
    weight = make(128)
    with Operations() as operations:
        value = loss(logits, target, weight, avg_factor=avg_factor)
        node = value.grad_fn
        while not hasattr(node, 'plan'):
            node = node.next_functions[0][0]
        with torch.no_grad():  # as the engine does, which wants a GPU for such tensors
            grad = one_pass._OnePass.backward(node, torch.ones_like(value), None)[0]
    assert grad.shape == logits.shape and grad.dtype == dtype
    assert len(launched) == 2
    assert launched[0].kernel is kernels.one_pass_kernel
    expected = Counter(empty=3, ones_like=1)  # gradient, loss, sums; the test's own
    if case == 'none':
        expected['empty'] += 1  # values; their sum is made too
    if case == 'tensor':
        expected.update(add=1, reciprocal=1)  # 1 / (avg_factor + eps)
    if dtype == torch.bfloat16 and case in ('mean', 'statistics', 'dense', 'tensor'):
        expected['mul'] += 1  # the incoming factor times that of the mean
    assert operations.count == expected


interpreted = pytest.mark.skipif(not backend.INTERPRETED, reason='needs the interpreter')


def step(logits, target, **options):
    """Loss, statistics and gradient by the kernels."""
    leaf = logits.clone().requires_grad_()
    loss = AsymmetricLoss(impl='triton', **options)
    loss.want_statistics = True
    value = loss(leaf, target)
    value.backward()
    return [value.detach(), *loss.statistics, leaf.grad]


@interpreted
@pytest.mark.parametrize('cols', [80, 21, 4])
def test_tiles_programs_and_tuning_change_nothing(monkeypatch, cols):
    """One program, many, and the path of large inputs, on full tiles and on those that are not."""
    rows = 2500 // cols
    logits = torch.randn(rows, cols) * 3 - 2
    target = torch.randint(-1, cols + 1, (rows,))
    expected = step(logits, target)
    found = []
    for options in (dict(BLOCK=256), dict(PROGRAMS=1), dict(BLOCK=128, PROGRAMS=2), dict(SMALL=0)):
        with monkeypatch.context() as patch:
            for name, value in options.items():
                patch.setattr(backend, name, value)
            found.append(step(logits, target))
    for other in found:
        torch.testing.assert_close(other[:6], expected[:6], rtol=1e-6, atol=0)
        assert torch.equal(other[6], expected[6])
    assert torch.equal(backend._done(logits.device, 0), torch.tensor(0, dtype=torch.int32))


@interpreted
def test_sums_of_programs_are_exact_above_16777216_and_do_not_depend_on_who_ends_last():
    import triton

    @triton.jit
    def finish(sums, loss, done, entries):
        kernels._finish(sums, loss, done, entries, True)

    programs, entries = 600, 600 * backend.LARGEST_SPAN
    counts = torch.randint(1, backend.LARGEST_SPAN, (programs, kernels.SUMS.value)).double()
    counts[0] = 1
    results = []
    for started in (programs - 1, 0):  # the first of this launch ends last, or the last
        sums = torch.full((1 + programs, kernels.SUMS.value), float('nan'), dtype=torch.float64)
        sums[1:] = counts
        loss, done = torch.zeros(()), torch.tensor(started, dtype=torch.int32)
        finish[(programs,)](sums, loss, done, entries)
        results.append(sums[0].clone())
    total = counts.sum(0)
    assert total[4] > 2**24 and torch.equal(results[1][:7], total[:7])
    assert torch.equal(results[0], results[1])
    assert results[1][7] == entries / total[6]
    assert loss == pytest.approx(float(total[0] * entries / total[6]), rel=1e-6)
