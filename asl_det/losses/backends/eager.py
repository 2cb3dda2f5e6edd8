"""The closed form in torch: any device and dtype, no compiler."""

from typing import NamedTuple, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from asl_det.losses.functional import shifted_probability
from asl_det.losses.targets import dense_targets
from asl_det.losses.types import Batch, Result, Settings, Statistics, sum_dtype, wide_dtype

CHUNK = 1 << 17  # entries: a few float32 temporaries of this size stay in a CPU's cache


def one_pass(logits: Tensor, batch: Batch, settings: Settings, *, want_values: bool,
             want_grad: bool, want_loss: bool, want_statistics: bool, mean: bool,
             upstream: Optional[Tensor]) -> Result:
    """See :func:`asl_det.losses.one_pass.run`."""
    device, wide = logits.device, wide_dtype(logits.dtype)
    values = torch.empty(logits.shape, dtype=wide, device=device) if want_values else None
    grad = torch.empty(logits.shape, dtype=logits.dtype, device=device) if want_grad else None
    step = logits.size(0)  # an accelerator wants few large operations
    if logits.device.type == 'cpu':
        step = max(1, CHUNK // logits.size(1))
    total: Optional[_Sums] = None
    for begin in range(0, logits.size(0), step):
        rows = slice(begin, begin + step)
        part = _chunk(logits[rows], batch.rows(rows), settings,
                      None if values is None else values[rows],
                      None if grad is None else grad[rows], want_statistics,
                      None if upstream is None else upstream[rows])
        total = part if total is None else _join(total, part)
    assert total is not None  # no batch here is empty
    correction = logits.numel() / total.known.clamp(min=1) if mean else 1.0
    return Result(total.loss * correction, correction, -1, values, grad, total.statistics)


def entry_statistics(p: Tensor, y: Tensor, weight: Tensor, clip: float) -> Statistics:
    """The statistics of probabilities ``p``, dense targets and weights that broadcast to them."""
    counted = (weight != 0).expand_as(p)
    positive, negative = counted & (y > 0.5), counted & ~(y > 0.5)
    dtype = sum_dtype(p.device)
    return Statistics(*(t.sum(dtype=dtype) for t in (
        torch.where(positive, p, 0), torch.where(negative, p, 0), positive, negative,
        negative & (p <= clip))))


class _Sums(NamedTuple):
    """What is added up over the pieces of a batch."""
    loss: Tensor
    known: Tensor  # entries whose target is not ignored
    statistics: Optional[Statistics]


def _join(a: _Sums, b: _Sums) -> _Sums:
    statistics = None
    if a.statistics is not None and b.statistics is not None:
        statistics = Statistics(*map(torch.add, a.statistics, b.statistics))
    return _Sums(a.loss + b.loss, a.known + b.known, statistics)


def _chunk(logits: Tensor, batch: Batch, settings: Settings, values: Optional[Tensor],
           grad: Optional[Tensor], want_statistics: bool, upstream: Optional[Tensor]) -> _Sums:
    """A piece of a batch; writes into ``values`` and ``grad``."""
    x = logits.to(wide_dtype(logits.dtype))
    y, known = dense_targets(batch.targets, x, settings.ignore_index)
    weight = known.to(x.dtype)
    for factor in (None if batch.row_weight is None else batch.row_weight.unsqueeze(-1),
                   batch.col_weight, batch.entry_weight, batch.factor):
        if factor is not None:
            weight = weight * factor.to(x.dtype)
    counted = weight != 0
    x = torch.where(counted, x, 0)  # what does not count may be anything
    value, slope = _branch(x, settings.gamma_neg, settings.clip, settings.constant_focus)
    value, slope = value * settings.scale_neg, slope * settings.scale_neg
    on_cpu = logits.device.type == 'cpu'
    if not on_cpu or bool((y != 0).any()):  # an accelerator is not asked: it would wait
        mirror, mirror_slope = _branch(-x, settings.gamma_pos, 0.0, settings.constant_focus)
        value = _mix(y, settings.scale_pos * mirror, value)
        slope = _mix(y, -settings.scale_pos * mirror_slope, slope)
    value = torch.where(counted, value * weight, 0)
    if values is not None:
        values.copy_(value)
    if grad is not None:
        slope = torch.where(counted, slope * weight, 0)
        grad.copy_(slope if upstream is None else slope * upstream)
    statistics = None
    if want_statistics:
        statistics = entry_statistics(torch.sigmoid(x), y, weight, settings.clip)
    count = known.sum() * (x.numel() // max(known.numel(), 1))
    return _Sums(value.sum(dtype=sum_dtype(x.device)), count, statistics)


def _mix(y: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """``y * positive + (1 - y) * negative``, where either may be infinite at y 0 or 1."""
    mixed = y * positive + (1 - y) * negative
    return torch.where(y == 0, negative, torch.where(y == 1, positive, mixed))


def _branch(x: Tensor, gamma: Union[float, Tensor], clip: float,
            constant_focus: bool) -> Tuple[Tensor, Tensor]:
    """Negative branch and its derivative; the positive one is its mirror image."""
    q = torch.sigmoid(-x)
    if clip == 0:
        cost = F.softplus(x, threshold=80)
        weight: Union[float, Tensor] = 1.0
        if gamma > 0:
            weight = torch.exp(-gamma * F.softplus(-x, threshold=80))
        p = torch.sigmoid(x)
        slope = p
        if not constant_focus and gamma > 0:
            slope = p + gamma * torch.where(x < 1000, cost, 0) * q  # not inf * 0
        return weight * cost, weight * slope
    above, p_m = shifted_probability(x, clip)
    not_p_m = torch.where(p_m < 0.5, 1 - p_m, q + clip)
    cost = -torch.where(p_m < 0.5, torch.log1p(-p_m), torch.log(not_p_m))
    weight = p_m**gamma
    slope = weight * torch.sigmoid(x) * q
    slope = slope / not_p_m if constant_focus else slope * (1 / not_p_m + gamma * cost / p_m)
    return torch.where(above, weight * cost, 0), torch.where(above, slope, 0)
