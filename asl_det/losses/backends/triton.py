"""Triton kernels for CUDA. Imported on demand: Triton may be missing.

One kernel reads the logits once and writes loss and gradient. Every program
writes its own partial sums, so results do not depend on the order of programs.
"""

import functools
import os
from typing import Optional, Union

import torch
import triton
import triton.language as tl
from torch import Tensor

from asl_det.losses.types import Batch, Result, Settings, Statistics, margin_logit

BLOCK = 2048
SUMS = 8  # loss, p_pos, p_neg, n_pos, n_neg, n_under, known, padding
INTEGER_GAMMAS = (0, 1, 2, 3, 4)
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'  # runs on CPU tensors, for tests


@triton.jit
def _power(base, log_base, gamma, GAMMA: tl.constexpr):
    if GAMMA == 0:
        result = tl.full(base.shape, 1.0, tl.float32)
    elif GAMMA == 1:
        result = base
    elif GAMMA == 2:
        result = base * base
    elif GAMMA == 3:
        result = base * base * base
    elif GAMMA == 4:
        square = base * base
        result = square * square
    else:
        result = tl.exp(gamma * log_base)
    return result


@triton.jit
def _plain_branch(x, gamma, GAMMA: tl.constexpr, CONSTANT: tl.constexpr):
    """p^gamma * -log(1 - p) and its derivative by x."""
    a = tl.abs(x)
    e = tl.exp(-a)
    u = 1.0 + e
    p = tl.where(x >= 0, 1.0, e) / u
    q = tl.where(x >= 0, e, 1.0) / u
    soft = tl.log(u) + (e - (u - 1.0)) / u  # log(1 + e), compensated
    cost = tl.where(x >= 0, a + soft, soft)
    weight = _power(p, tl.where(x >= 0, -soft, -a - soft), gamma, GAMMA)
    slope = p
    if not CONSTANT and GAMMA != 0:
        slope = p + gamma * tl.where(a < 1000, cost, 0.0) * q  # not inf * 0
    return weight * cost, weight * slope


@triton.jit
def _margin_branch(x, gamma, clip, rest, threshold, threshold_low, GAMMA: tl.constexpr,
                   CONSTANT: tl.constexpr):
    """The same with p - clip in the place of p, nothing at or under the margin."""
    e = tl.exp(-tl.abs(x))
    p = tl.where(x >= 0, 1.0, e) / (1.0 + e)
    q = tl.where(x >= 0, e, 1.0) / (1.0 + e)
    d = (x - threshold) - threshold_low
    above = d > 0
    s = tl.minimum(d, 0.35)  # 1 - exp(-d): by its series where the difference cancels
    series = s * (1.0 - s * (0.5 - s * (1 / 6 - s * (1 / 24 - s * (1 / 120 - s * (
        1 / 720 - s / 5040))))))
    p_m = p * rest * tl.where(d < 0.35, series, 1.0 - tl.exp(-tl.maximum(d, 0.0)))
    p_m = tl.where(above, tl.maximum(p_m, 1.1754944e-38), 0.5)
    low = p_m < 0.5
    u = tl.where(low, 1.0 - p_m, q + clip)
    cost = tl.where(low, (p_m + (u - 1.0)) / u, 0.0) - tl.log(u)
    weight = _power(p_m, tl.log(p_m), gamma, GAMMA)
    slope = 1.0 / u
    if not CONSTANT:
        slope += gamma * cost / p_m
    return tl.where(above, weight * cost, 0.0), tl.where(above, weight * p * q * slope, 0.0)


@triton.jit
def _one_pass_kernel(logits, targets, row_weight, col_weight, entry_weight, upstream, factor,
                     values, grad, sums, entries, cols, gamma_pos, gamma_neg, scale_pos, scale_neg,
                     clip, rest, threshold, threshold_low, ignore, GAMMA_POS: tl.constexpr,
                     GAMMA_NEG: tl.constexpr, MARGIN: tl.constexpr, CONSTANT: tl.constexpr,
                     DENSE: tl.constexpr, HAS_ROW: tl.constexpr, HAS_COL: tl.constexpr,
                     HAS_ENTRY: tl.constexpr, HAS_UPSTREAM: tl.constexpr,
                     HAS_FACTOR: tl.constexpr, WANT_VALUES: tl.constexpr, WANT_GRAD: tl.constexpr,
                     WANT_STATISTICS: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    at = program * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside = at < entries
    row, col = at // cols, at % cols
    x = tl.load(logits + at, mask=inside, other=0.0).to(tl.float32)
    if DENSE:
        y = tl.load(targets + at, mask=inside, other=0.0).to(tl.float32)
        known = y != ignore
    else:
        label = tl.load(targets + row, mask=inside, other=0)
        y = (label == col).to(tl.float32)
        known = label.to(tl.float32) != ignore
    known = known & inside
    y = tl.where(known, y, 0.0)

    if MARGIN:
        value, slope = _margin_branch(x, gamma_neg, clip, rest, threshold, threshold_low,
                                      GAMMA_NEG, CONSTANT)
    else:
        value, slope = _plain_branch(x, gamma_neg, GAMMA_NEG, CONSTANT)
    mirror, mirror_slope = _plain_branch(-x, gamma_pos, GAMMA_POS, CONSTANT)
    # Either may be infinite where the other counts alone: 0 * inf.
    value = tl.where(y == 1.0, 0.0, (1.0 - y) * scale_neg * value) \
        + tl.where(y == 0.0, 0.0, y * scale_pos * mirror)
    slope = tl.where(y == 1.0, 0.0, (1.0 - y) * scale_neg * slope) \
        - tl.where(y == 0.0, 0.0, y * scale_pos * mirror_slope)
    value = tl.where(x == x, value, x)  # NaN logits give NaN
    slope = tl.where(x == x, slope, x)

    weight = known.to(tl.float32)
    if HAS_ROW:
        weight *= tl.load(row_weight + row, mask=inside, other=0.0).to(tl.float32)
    if HAS_COL:
        weight *= tl.load(col_weight + col, mask=inside, other=0.0).to(tl.float32)
    if HAS_ENTRY:
        weight *= tl.load(entry_weight + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_FACTOR:
        weight *= tl.load(factor)
    value = tl.where(weight != 0, value * weight, 0.0)
    slope = tl.where(weight != 0, slope * weight, 0.0)
    if HAS_UPSTREAM:
        slope *= tl.load(upstream + at, mask=inside, other=0.0).to(tl.float32)
    if WANT_VALUES:
        tl.store(values + at, value, mask=inside)
    if WANT_GRAD:
        tl.store(grad + at, slope.to(grad.dtype.element_ty), mask=inside)

    sums += program * SUMS
    tl.store(sums, tl.sum(value, 0))
    tl.store(sums + 6, tl.sum(known.to(tl.float32), 0))
    if WANT_STATISTICS:
        e = tl.exp(-tl.abs(x))
        p = tl.where(x >= 0, 1.0, e) / (1.0 + e)
        positive = ((weight != 0) & (y > 0.5)).to(tl.float32)
        negative = ((weight != 0) & (y <= 0.5)).to(tl.float32)
        under = ((x - threshold) - threshold_low <= 0).to(tl.float32) * negative
        tl.store(sums + 1, tl.sum(positive * p, 0))
        tl.store(sums + 2, tl.sum(negative * p, 0))
        tl.store(sums + 3, tl.sum(positive, 0))
        tl.store(sums + 4, tl.sum(negative, 0))
        tl.store(sums + 5, tl.sum(under, 0))


@triton.jit
def _scale_kernel(grad, factor, entries, BLOCK: tl.constexpr):
    value = tl.load(factor)
    if value != 1.0:  # read on the device: no synchronisation, and no traffic in the usual case
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        scaled = tl.load(grad + at, mask=at < entries, other=0.0).to(tl.float32) * value
        tl.store(grad + at, scaled.to(grad.dtype.element_ty), mask=at < entries)


def scale_(grad: Tensor, factor: Union[float, Tensor]) -> Tensor:
    """Multiply a contiguous ``grad`` by a 0-dim ``factor`` in place; free where it is 1."""
    with torch.cuda.device_of(grad):
        _scale_kernel[(triton.cdiv(grad.numel(), BLOCK),)](
            grad, torch.as_tensor(factor, dtype=torch.float32, device=grad.device), grad.numel(),
            BLOCK=BLOCK)
    return grad


def one_pass(logits: Tensor, batch: Batch, settings: Settings, *, want_values: bool,
             want_grad: bool, want_statistics: bool, upstream: Optional[Tensor]) -> Result:
    """See :func:`asl_det.losses.one_pass.run`. One kernel, without a host synchronisation."""
    x, s = logits.contiguous(), settings
    kwargs = dict(device=x.device)
    values = torch.empty(x.shape, dtype=torch.float32, **kwargs) if want_values else None
    grad = torch.empty(x.shape, dtype=x.dtype, **kwargs) if want_grad else None
    programs = triton.cdiv(x.numel(), BLOCK)
    sums = torch.zeros(programs, SUMS, dtype=torch.float32, **kwargs)
    weights = [None if w is None else w.contiguous() for w in (
        batch.row_weight, batch.col_weight, batch.entry_weight, upstream, batch.factor)]
    targets = batch.targets.contiguous()
    if targets.dtype == torch.bool or batch.as_index:
        targets = targets.to(torch.int64 if batch.as_index else torch.uint8)
    high, low = margin_logit(s.clip)
    with torch.cuda.device_of(x):
        _one_pass_kernel[(programs,)](
            x, targets, *(x if w is None else w for w in weights),
            x if values is None else values, x if grad is None else grad, sums, x.numel(),
            x.size(-1), float(s.gamma_pos), float(s.gamma_neg), s.scale_pos, s.scale_neg,
            float(s.clip), 1 - s.clip, high, low, float(s.ignore_index),
            GAMMA_POS=_integer(s.gamma_pos), GAMMA_NEG=_integer(s.gamma_neg), MARGIN=s.clip > 0,
            CONSTANT=s.constant_focus, DENSE=not batch.as_index, HAS_ROW=weights[0] is not None,
            HAS_COL=weights[1] is not None, HAS_ENTRY=weights[2] is not None,
            HAS_UPSTREAM=upstream is not None, HAS_FACTOR=weights[4] is not None,
            WANT_VALUES=want_values, WANT_GRAD=want_grad,
            WANT_STATISTICS=want_statistics, BLOCK=BLOCK, SUMS=SUMS)
    total = sums.sum(0, dtype=torch.float64)
    statistics = Statistics(*total[1:6]) if want_statistics else None
    return Result(total[0], total[6], -1, values, grad, statistics)


@functools.lru_cache(maxsize=None)
def problem(device: torch.device) -> Optional[str]:
    """Why the kernels can not run on a device, or None; tried out once a device.

    Triton needs a C compiler at run time and a GPU that it compiles for, and
    says so only when a kernel starts.
    """
    try:
        one_pass(torch.zeros(1, 1, device=device), Batch(torch.zeros(1, 1, device=device)),
                 Settings(0.0, 4.0, 0.05, None, False, -1, 1.0), want_values=False,
                 want_grad=True, want_statistics=False, upstream=None)
        scale_(torch.zeros(1, device=device), 2.0)
    except Exception as error:  # of Triton, its compilers or the driver
        return f'{type(error).__name__}: {error}'.strip().splitlines()[-1]
    return None


def _integer(gamma: float) -> int:
    """The exponent if the kernel multiplies it out, else -1."""
    return int(gamma) if gamma in INTEGER_GAMMAS else -1
