"""Builds ``sweep.c`` with the machine's C compiler and calls it."""

import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import torch
from torch import Tensor

if TYPE_CHECKING:
    from asl_det.losses.fused import Batch, Settings, Swept

SOURCE = Path(__file__).with_name('sweep.c')
PARALLEL_FROM = 1 << 18  # entries; below, a second thread costs more than it saves
COMMON = ['-O3', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-shared', '-fPIC']
FLAGS = [['-march=native', '-mprefer-vector-width=512'], ['-march=native'], ['-mcpu=native'], []]


class Unavailable(RuntimeError):
    """Why the compiled path can not be used."""


class _Params(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in (
        'gamma_pos', 'gamma_neg', 'scale_pos', 'scale_neg', 'clip', 'rest', 'odds', 'threshold',
        'threshold_low')] + [('constant_focus', ctypes.c_int32), ('ignore', ctypes.c_float)]


class _Sums(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ('loss', 'p_pos', 'p_neg')] + \
        [(name, ctypes.c_int64) for name in ('n_pos', 'n_neg', 'n_under', 'known', 'bad')]


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """The compiled sweep, from the cache or built now (a second or two).

    The cache is ``$XDG_CACHE_HOME/asl_det`` (``~/.cache/asl_det``); its key
    holds the source, the compiler and the processor, so that machines may
    share it.

    Raises:
        Unavailable: without a C compiler, or with ``ASL_DET_NATIVE=0``.
    """
    if os.environ.get('ASL_DET_NATIVE') == '0':
        raise Unavailable('ASL_DET_NATIVE=0 switches it off')
    compiler = next(filter(None, map(shutil.which, (os.environ.get('CC', 'cc'), 'gcc', 'clang'))),
                    None)
    if compiler is None:
        raise Unavailable('there is no C compiler (cc, gcc or clang)')
    version = subprocess.run([compiler, '--version'], capture_output=True, text=True).stdout
    key = hashlib.sha256('\0'.join([SOURCE.read_text(), version, _processor()]).encode())
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'asl_det'
    target = cache / f'sweep-{key.hexdigest()[:16]}.so'
    if not target.is_file():
        _build(compiler, target)
    sweep = ctypes.CDLL(str(target))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    sweep.asl_sweep.argtypes = [pointer, integer, integer, integer, *[pointer] * 6,
                                ctypes.POINTER(_Params), pointer, pointer, ctypes.c_int32,
                                ctypes.POINTER(_Sums)]
    sweep.asl_sweep.restype = None
    return sweep


@functools.lru_cache(maxsize=None)
def is_available() -> bool:
    """Whether the compiled path can be used here; builds it at the first call.

    Warns once if it can not.
    """
    try:
        library()
    except (Unavailable, OSError) as error:
        warnings.warn('the loss takes its slower CPU path in torch, since the compiled one is not '
                      f'available: {error}', stacklevel=2)
        return False
    return True


def is_direct(logits: Tensor, batch: 'Batch', upstream: Optional[Tensor]) -> bool:
    """Whether every tensor can be handed over as it is, in one piece."""
    floats = [logits, batch.entry_weight, upstream]
    if batch.targets.dim() == logits.dim():
        floats.append(batch.targets)
    return all(t is None or (t.dtype == torch.float32 and t.is_contiguous()) for t in floats)


def sweep(logits: Tensor, batch: 'Batch', settings: 'Settings', values: Optional[Tensor],
          grad: Optional[Tensor], want_statistics: bool, upstream: Optional[Tensor]) -> 'Swept':
    """:func:`asl_det.losses.fused.sweep` for a piece of a batch, writing into its outputs."""
    from asl_det.losses.fused import Statistics, Swept
    rows, cols = logits.shape
    labels = dense = None
    if batch.targets.dim() == 2:
        dense = _float(batch.targets)
    else:
        labels = batch.targets.long().contiguous()
    own_grad = grad if grad is None or grad.dtype == torch.float32 else torch.empty(rows, cols)
    inputs = (_float(logits), labels, dense, _float(batch.row_weight), _float(batch.col_weight),
              _float(batch.entry_weight), _float(upstream))  # kept alive during the call
    pointers = [None if t is None else t.data_ptr() for t in inputs]
    outputs = [None if t is None else t.data_ptr() for t in (values, own_grad)]
    params, call = _params(settings), library().asl_sweep

    def run(begin: int, end: int) -> _Sums:
        sums = _Sums()
        call(pointers[0], begin, end, cols, *pointers[1:], params, *outputs, want_statistics, sums)
        return sums

    parts = _parallel(run, rows, rows * cols)
    if own_grad is not grad:
        grad.copy_(own_grad)
    bad = next((p.bad for p in parts if p.bad >= 0), -1)
    statistics = None
    if want_statistics:
        statistics = Statistics(*(
            torch.tensor(float(sum(getattr(p, name) for p in parts)), dtype=torch.float64)
            for name in ('p_pos', 'p_neg', 'n_pos', 'n_neg', 'n_under')))
    return Swept(torch.tensor(sum(p.loss for p in parts), dtype=torch.float64),
                 sum(p.known for p in parts), bad, values, grad, statistics)


def _parallel(run: object, rows: int, entries: int) -> List[_Sums]:
    threads = min(torch.get_num_threads(), rows) if entries >= PARALLEL_FROM else 1
    if threads == 1:
        return [run(0, rows)]
    # More pieces than threads, so that one slow core does not hold up the rest.
    bounds = [rows * i // (4 * threads) for i in range(4 * threads + 1)]
    return list(_pool(threads, os.getpid()).map(run, bounds[:-1], bounds[1:]))


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # threads do not survive a fork
    return ThreadPoolExecutor(threads, thread_name_prefix='asl_det')


@functools.lru_cache(maxsize=64)
def _params(s: 'Settings') -> _Params:
    threshold = math.log(s.clip) - math.log1p(-s.clip) if s.clip > 0 else -math.inf
    high = ctypes.c_float(threshold).value
    low = threshold - high if s.clip > 0 else 0.0
    return _Params(s.gamma_pos, s.gamma_neg, s.scale_pos, s.scale_neg, s.clip, 1 - s.clip,
                   s.clip / (1 - s.clip), high, low, s.constant_focus, s.ignore_index)


def _float(tensor: Optional[Tensor]) -> Optional[Tensor]:
    return None if tensor is None else tensor.float().contiguous()


def _build(compiler: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    errors = ''
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        for flags in FLAGS:
            command = [compiler, *COMMON, *flags, str(SOURCE), '-o', str(built), '-lm']
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode == 0:
                os.replace(built, target)  # at once: another process may build it too
                return
            errors = result.stderr
    raise Unavailable(f'{compiler} does not compile {SOURCE.name}: {errors.strip()[-500:]}')


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line for line in lines if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        return f'{platform.machine()} {platform.processor()} {platform.node()}'
