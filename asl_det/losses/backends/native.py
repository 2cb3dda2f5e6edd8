"""Calls ``one_pass.c``, compiled in a wheel or now by the machine's compiler: CPU, no float64."""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Callable, List, Optional

import torch
from torch import Tensor

from asl_det.losses.backends.building import COMPILE, NATIVE, SOURCES, shipped_name
from asl_det.losses.types import Batch, Result, Settings, Statistics, last_under, margin_logit

PARALLEL_FROM = 1 << 18  # entries; below, a second thread costs more than it saves
TYPES = {dtype: code for code, dtype in enumerate((  # as the enum in one_pass.c
    torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int8,
    torch.int16, torch.int32, torch.int64))}


class Unavailable(RuntimeError):
    """Why the compiled path can not be used."""


class _Params(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_float) for name in (
        'gamma_pos', 'gamma_neg', 'scale_pos', 'scale_neg', 'clip', 'rest', 'odds', 'threshold',
        'threshold_low', 'under')), ('constant_focus', ctypes.c_int32), ('ignore', ctypes.c_int64)]


class _Matrix(ctypes.Structure):
    _fields_ = [('data', ctypes.c_void_p), ('row_stride', ctypes.c_int64),
                ('col_stride', ctypes.c_int64), ('type', ctypes.c_int64)]


class _Call(ctypes.Structure):
    _fields_ = [('rows', ctypes.c_int64), ('cols', ctypes.c_int64),
                *((name, _Matrix) for name in ('logits', 'dense', 'entry_weight', 'upstream')),
                *((name, ctypes.c_void_p) for name in (
                    'labels', 'row_weight', 'col_weight', 'values', 'grad')),
                ('want_stats', ctypes.c_int64), ('params', ctypes.POINTER(_Params))]


class _Sums(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_double) for name in ('loss', 'p_pos', 'p_neg')),
                *((name, ctypes.c_int64) for name in (
                    'n_pos', 'n_neg', 'n_under', 'known', 'bad'))]


ABSENT = _Matrix()


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """The compiled pass: of the wheel, from the cache, or built now (a second or two).

    A wheel for a platform holds it for several kinds of processors
    (``ASL_DET_NATIVE=build`` leaves that aside). The cache is
    ``$XDG_CACHE_HOME/asl_det`` (``~/.cache/asl_det``); its key holds the
    source, the compiler, its flags and the processor, so that machines may
    share it. What others than this user can write is not loaded.

    Raises:
        Unavailable: without a C compiler, with ``ASL_DET_NATIVE=0``, or where
            others can write to the folder.
    """
    if os.environ.get('ASL_DET_NATIVE') == '0':
        raise Unavailable('ASL_DET_NATIVE=0 switches it off')
    if os.environ.get('ASL_DET_NATIVE') != 'build':
        with suppress(OSError):  # no such file, in a pure wheel or a clone; or of another system
            return _load(shipped())
    return _load(_built_here())


def shipped() -> Path:
    """Where a wheel has the pass for this processor."""
    found = re.search(r'CPU capability usage: (\w+)', torch.__config__.show())
    variant = found.group(1) if found and found.group(1) in ('AVX2', 'AVX512') else 'DEFAULT'
    return Path(__file__).with_name(f'{shipped_name(variant)}.so')


def _built_here() -> Path:
    compiler = next(filter(None, map(shutil.which, (os.environ.get('CC', 'cc'), 'gcc', 'clang'))),
                    None)
    if compiler is None:
        raise Unavailable('there is no C compiler (cc, gcc or clang)')
    version = subprocess.run([compiler, '--version'], capture_output=True, text=True).stdout
    key = hashlib.sha256('\0'.join([*(s.read_text('utf-8') for s in SOURCES), version,
                                    repr(COMPILE), repr(NATIVE), _processor()]).encode())
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'asl_det'
    target = cache / f'one_pass-{key.hexdigest()[:16]}.so'
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_private(cache):
        raise Unavailable(f'{cache} is not this user\'s alone, and code is loaded from there: '
                          f'chmod 700 {cache}, or set XDG_CACHE_HOME to a folder of your own')
    if not (target.is_file() and _is_private(target)):
        _build(compiler, target)
    return target


def _load(path: Path) -> ctypes.CDLL:
    compiled = ctypes.CDLL(str(path))
    call = ctypes.POINTER(_Call)
    compiled.asl_tiles.argtypes, compiled.asl_tiles.restype = [call], ctypes.c_int64
    compiled.asl_one_pass.argtypes = [call, ctypes.c_int64, ctypes.c_int64,
                                      ctypes.POINTER(_Sums)]
    compiled.asl_one_pass.restype = None
    return compiled


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


def one_pass(logits: Tensor, batch: Batch, settings: Settings, *, want_values: bool,
             want_grad: bool, want_loss: bool, want_statistics: bool, mean: bool,
             upstream: Optional[Tensor]) -> Result:
    """See :func:`asl_det.losses.one_pass.run`. Looks at the targets as it goes."""
    rows, cols = logits.shape
    labels = dense = None
    if batch.as_index:
        labels = batch.targets.long().contiguous()
    else:
        dense = _readable(batch.targets)
    row_weight, col_weight = (None if w is None else w.float().contiguous()
                              for w in (batch.row_weight, batch.col_weight))
    entry_weight, upstream = map(_readable, (batch.entry_weight, upstream))
    values = torch.empty(rows, cols, dtype=torch.float32, device='cpu') if want_values else None
    grad = torch.empty(rows, cols, dtype=logits.dtype, device='cpu') if want_grad else None
    params = _params(settings)
    call = _Call(rows, cols, _matrix(logits), _matrix(dense), _matrix(entry_weight),
                 _matrix(upstream), _pointer(labels), _pointer(row_weight), _pointer(col_weight),
                 _pointer(values), _pointer(grad), want_statistics, ctypes.pointer(params))
    compiled = library()

    def run(begin: int, end: int) -> _Sums:
        sums = _Sums()
        compiled.asl_one_pass(call, begin, end, sums)
        return sums

    parts = _parallel(run, compiled.asl_tiles(call), rows * cols)
    statistics = None
    if want_statistics:
        statistics = Statistics(*(_scalar(sum(getattr(p, name) for p in parts))
                                  for name in ('p_pos', 'p_neg', 'n_pos', 'n_neg', 'n_under')))
    correction = rows * cols / max(sum(p.known for p in parts), 1) if mean else 1.0
    return Result(_scalar(sum(p.loss for p in parts) * correction), correction,
                  next((p.bad for p in parts if p.bad >= 0), -1), values, grad, statistics)


def _readable(tensor: Optional[Tensor]) -> Optional[Tensor]:
    """The same values in a dtype that C knows."""
    if tensor is None or tensor.dtype in TYPES:
        return tensor
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor.float()


def _matrix(tensor: Optional[Tensor]) -> _Matrix:
    """A readable CPU tensor (N, C), of any layout; it must outlive the call."""
    if tensor is None:
        return ABSENT
    return _Matrix(_pointer(tensor), *tensor.stride(), TYPES[tensor.dtype])


def _pointer(tensor: Optional[Tensor]) -> Optional[int]:
    if tensor is None:
        return None
    if tensor.device.type != 'cpu' or tensor.layout != torch.strided:
        raise RuntimeError(f'the compiled path got a {tensor.layout} tensor on {tensor.device}')
    address = tensor.data_ptr()
    if not address and tensor.numel():
        raise RuntimeError('the compiled path got a tensor without values (FakeTensorMode?)')
    return address


def _scalar(value: float) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float64, device='cpu')


def _parallel(run: Callable[[int, int], _Sums], tiles: int, entries: int) -> List[_Sums]:
    threads = min(torch.get_num_threads(), tiles) if entries >= PARALLEL_FROM else 1
    if threads == 1:
        return [run(0, tiles)]
    # More pieces than threads, so that one slow core does not hold up the rest.
    bounds = [tiles * i // (4 * threads) for i in range(4 * threads + 1)]
    return list(_pool(threads, os.getpid()).map(run, bounds[:-1], bounds[1:]))


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # threads do not survive a fork
    return ThreadPoolExecutor(threads, thread_name_prefix='asl_det')


@functools.lru_cache(maxsize=64)
def _params(s: Settings) -> _Params:
    high, low = margin_logit(s.clip)
    return _Params(s.gamma_pos, s.gamma_neg, s.scale_pos, s.scale_neg, s.clip, 1 - s.clip,
                   s.clip / (1 - s.clip), high, low, last_under(s.clip), s.constant_focus,
                   s.ignore_index)


def _build(compiler: str, target: Path) -> None:
    errors = ''
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        for flags in NATIVE:
            command = [compiler, *COMPILE, *flags, '-shared', str(SOURCES[0]), '-o', str(built),
                       '-lm']
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode == 0:
                built.chmod(0o700)
                os.replace(built, target)  # at once: another process may build it too
                return
            errors = result.stderr
    raise Unavailable(f'{compiler} does not compile {SOURCES[0].name}: {errors.strip()[-500:]}')


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path('/proc/cpuinfo').read_text('utf-8').splitlines()
        return next(line for line in lines if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        return f'{platform.machine()} {platform.processor()} {platform.node()}'


def _is_private(path: Path) -> bool:
    """Whether a path is this user's, and nobody else can write to it (where there are users)."""
    if not hasattr(os, 'geteuid'):
        return True
    status = path.lstat()
    return (status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)
            and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
