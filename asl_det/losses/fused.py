"""The asymmetric loss with value and gradient in one pass over the logits.

Closed-form derivatives instead of autograd, class indices as they are instead
of a one-hot target, no full-size temporary besides the gradient. Backends:

- ``sweep.c``, compiled once by the machine's C compiler: CPU, all but float64;
- ``triton_kernels.py``: CUDA;
- closed form in torch, in chunks: everything else.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from asl_det.losses import native
from asl_det.losses.functional import dense_targets, shifted_probability, target_error

CHUNK = 1 << 17  # entries: a few float32 temporaries of this size stay in the cache


@dataclass(frozen=True)
class Settings:
    """The parameters of a loss and the factor of its result."""
    gamma_pos: float
    gamma_neg: float
    clip: float
    alpha: Optional[float]
    constant_focus: bool
    ignore_index: int
    scale: float

    @property
    def scale_pos(self) -> float:
        return self.scale * (1.0 if self.alpha is None else self.alpha)

    @property
    def scale_neg(self) -> float:
        return self.scale * (1.0 if self.alpha is None else 1.0 - self.alpha)


class Batch(NamedTuple):
    """What stands beside the logits ``(N, C)``: targets and weights."""
    targets: Tensor  # labels (N,) or dense (N, C)
    row_weight: Optional[Tensor]  # (N,)
    col_weight: Optional[Tensor]  # (C,)
    entry_weight: Optional[Tensor]  # (N, C)
    factor: Optional[Tensor] = None  # 0-dim, on a GPU: a factor that the host does not know

    def rows(self, rows: slice) -> 'Batch':
        """The part of some rows."""
        targets, row_weight, entry_weight = (
            None if t is None else t[rows]
            for t in (self.targets, self.row_weight, self.entry_weight))
        return Batch(targets, row_weight, self.col_weight, entry_weight, self.factor)


class Statistics(NamedTuple):
    """Sums over the known entries of weight > 0, as tensors on the device of the logits."""
    p_pos: Tensor  #: sum of the probabilities of positives (target > 0.5)
    p_neg: Tensor  #: the same over negatives
    n_pos: Tensor  #: number of positives
    n_neg: Tensor  #: number of negatives
    n_under: Tensor  #: number of negatives at or under the margin


class Swept(NamedTuple):
    """What one pass gives."""
    loss: Tensor  # sum of all entries, 0-dim float64
    known: Union[int, Tensor]  # entries whose target is not ignored
    bad: int  # first position of a target out of range, or -1 (-1 where not looked at)
    values: Optional[Tensor]
    grad: Optional[Tensor]
    statistics: Optional[Statistics]


def sweep(logits: Tensor, batch: Batch, settings: Settings, *, backend: str,
          want_values: bool = False, want_grad: bool = False, want_statistics: bool = False,
          upstream: Optional[Tensor] = None) -> Swept:
    """One pass over ``logits (N, C)``.

    Args:
        logits: any float dtype, not empty.
        batch: targets and weights.
        settings: parameters of the loss.
        backend: 'native' (C), 'triton' or 'eager'.
        want_values: return the loss of every entry, float32 or float64.
        want_grad: return the gradient of the sum, in the dtype of the logits.
        want_statistics: return :class:`Statistics`.
        upstream: ``(N, C)``, multiplied into the gradient.
    """
    if backend == 'triton':
        from asl_det.losses import triton_kernels
        return triton_kernels.sweep(logits, batch, settings, want_values, want_grad,
                                    want_statistics, upstream)
    values = torch.empty_like(logits, dtype=_wide(logits),
                              memory_format=torch.contiguous_format) if want_values else None
    grad = torch.empty_like(logits, memory_format=torch.contiguous_format) if want_grad else None
    run, step = _eager_chunk, max(1, CHUNK // logits.size(1))
    if backend == 'native':
        run = native.sweep
        if native.is_direct(logits, batch, upstream):
            step = logits.size(0)  # in one piece
    total = None
    for begin in range(0, logits.size(0), step):
        rows = slice(begin, begin + step)
        part = run(logits[rows], batch.rows(rows), settings,
                   None if values is None else values[rows], None if grad is None else grad[rows],
                   want_statistics, None if upstream is None else upstream[rows])
        if part.bad >= 0:
            per_row = 1 if batch.targets.dim() == 1 else logits.size(1)
            part = part._replace(bad=part.bad + begin * per_row)
        total = part if total is None else _join(total, part)
    return total._replace(values=values, grad=grad)


def _join(a: Swept, b: Swept) -> Swept:
    """The sums over two pieces of a batch."""
    statistics = None
    if a.statistics is not None:
        statistics = Statistics(*map(torch.add, a.statistics, b.statistics))
    return Swept(a.loss + b.loss, a.known + b.known, a.bad if a.bad >= 0 else b.bad, None, None,
                 statistics)


def _eager_chunk(logits: Tensor, batch: Batch, settings: Settings, values: Optional[Tensor],
                 grad: Optional[Tensor], want_statistics: bool,
                 upstream: Optional[Tensor]) -> Swept:
    """The closed form in torch; writes into ``values`` and ``grad``."""
    x = logits if logits.dtype == torch.float64 else logits.float()
    y, known = dense_targets(batch.targets, x, settings.ignore_index)
    value, slope = _branch(x, settings.gamma_neg, settings.clip, settings.constant_focus)
    value *= (1 - y) * settings.scale_neg
    slope *= (1 - y) * settings.scale_neg
    if logits.is_cuda or bool((y != 0).any()):  # a GPU is not asked: it would wait
        mirror, mirror_slope = _branch(-x, settings.gamma_pos, 0.0, settings.constant_focus)
        value += y * settings.scale_pos * mirror
        slope -= y * settings.scale_pos * mirror_slope
    weight = known.to(x.dtype)
    if batch.row_weight is not None:
        weight = weight * batch.row_weight.to(x.dtype).unsqueeze(-1)
    if batch.col_weight is not None:
        weight = weight * batch.col_weight.to(x.dtype)
    if batch.entry_weight is not None:
        weight = weight * batch.entry_weight.to(x.dtype)
    if batch.factor is not None:
        weight = weight * batch.factor
    value = torch.where(weight != 0, value * weight, 0)
    if values is not None:
        values.copy_(value)
    if grad is not None:
        slope = torch.where(weight != 0, slope * weight, 0)
        grad.copy_(slope if upstream is None else slope * upstream)
    statistics = None
    if want_statistics:
        statistics = entry_statistics(torch.sigmoid(x), y, weight, settings.clip)
    count = known.sum() * (x.numel() // max(known.numel(), 1))
    return Swept(value.sum(dtype=torch.float64), count, -1, values, grad, statistics)


def entry_statistics(p: Tensor, y: Tensor, weight: Tensor, clip: float) -> Statistics:
    """The statistics of probabilities ``p``, dense targets and weights that broadcast to them."""
    counted = (weight != 0).expand_as(p)
    positive, negative = counted & (y > 0.5), counted & (y <= 0.5)
    return Statistics(*(t.sum(dtype=torch.float64) for t in (
        torch.where(positive, p, 0), torch.where(negative, p, 0), positive, negative,
        negative & (p <= clip))))


def _branch(x: Tensor, gamma: float, clip: float, constant_focus: bool) -> Tuple[Tensor, Tensor]:
    """Negative branch and its derivative; the positive one is its mirror image."""
    q = torch.sigmoid(-x)
    if clip == 0:
        cost = F.softplus(x, threshold=80)
        weight = torch.exp(-gamma * F.softplus(-x, threshold=80))
        p = torch.sigmoid(x)
        slope = p if constant_focus else p + gamma * cost * q
        return weight * cost, weight * slope
    above, p_m = shifted_probability(x, clip)
    not_p_m = torch.where(p_m < 0.5, 1 - p_m, q + clip)
    cost = -torch.where(p_m < 0.5, torch.log1p(-p_m), torch.log(not_p_m))
    weight = p_m**gamma
    slope = weight * torch.sigmoid(x) * q
    slope = slope / not_p_m if constant_focus else slope * (1 / not_p_m + gamma * cost / p_m)
    return torch.where(above, weight * cost, 0), torch.where(above, slope, 0)


class _Sum(torch.autograd.Function):
    """The summed loss.

    In float32 and float64 the gradient is made in the forward pass and handed
    over in the backward pass. In half precision it is made in the backward
    pass, where the incoming factor (a loss scale, say) still saves small values
    from rounding to zero.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, batch: Batch, settings: Settings, backend: str, mean: bool,
                check: bool, want_statistics: bool) -> Tuple[Tensor, Optional[Statistics]]:
        now = ctx.needs_input_grad[0] and logits.dtype == _wide(logits)
        swept = sweep(logits, batch, settings, backend=backend, want_grad=now,
                      want_statistics=want_statistics)
        if check:
            _refuse(swept.bad, batch, settings, logits)
        loss, ctx.factor = swept.loss, 1.0
        if mean:  # the settings divide by all entries: leave out the unknown ones
            ctx.factor = _correction(swept.known, logits.numel())
            loss = loss * ctx.factor
        ctx.save_for_backward(logits)
        ctx.grad, ctx.arguments = swept.grad, (batch, settings, backend)
        return loss.to(_wide(logits)), swept.statistics

    @staticmethod
    def backward(ctx, upstream: Tensor, _: None) -> Tuple[Optional[Tensor], ...]:
        _refuse_second_derivative()
        logits, = ctx.saved_tensors
        batch, settings, backend = ctx.arguments
        on_cpu = logits.device.type == 'cpu'
        factor = (upstream.item() if on_cpu else upstream) * ctx.factor  # no wait for a GPU
        grad, ctx.grad = ctx.grad, None
        if grad is None:  # half precision, or a second pass through a retained graph
            if on_cpu:
                settings = replace(settings, scale=settings.scale * float(factor))
            else:
                batch = batch._replace(
                    factor=factor if batch.factor is None else batch.factor * factor)
            grad = sweep(logits, batch, settings, backend=backend, want_grad=True).grad
        elif backend == 'triton':
            from asl_det.losses import triton_kernels
            triton_kernels.scale_(grad, factor)
        elif not on_cpu or factor != 1:
            grad *= factor
        return grad, *[None] * 6


class _Entries(torch.autograd.Function):
    """The loss of every entry; the gradient is computed in the backward pass."""

    @staticmethod
    def forward(ctx, logits: Tensor, batch: Batch, settings: Settings, backend: str, check: bool,
                want_statistics: bool) -> Tuple[Tensor, Optional[Statistics]]:
        swept = sweep(logits, batch, settings, backend=backend, want_values=True,
                      want_statistics=want_statistics)
        if check:
            _refuse(swept.bad, batch, settings, logits)
        ctx.save_for_backward(logits)
        ctx.arguments = batch, settings, backend
        return swept.values, swept.statistics

    @staticmethod
    def backward(ctx, upstream: Tensor, _: None) -> Tuple[Optional[Tensor], ...]:
        _refuse_second_derivative()
        logits, = ctx.saved_tensors
        batch, settings, backend = ctx.arguments
        grad = sweep(logits, batch, settings, backend=backend, want_grad=True,
                     upstream=upstream.contiguous()).grad
        return grad, *[None] * 5


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError("this path gives no second derivative (create_graph=True): use "
                           "AsymmetricLoss(impl='torch')")


def fused_loss(logits: Tensor, batch: Batch, settings: Settings, *, backend: str, reduction: str,
               check: bool, want_statistics: bool = False
               ) -> Tuple[Tensor, Optional[Statistics]]:
    """The loss, reduced, with a gradient for ``logits`` alone.

    Args:
        logits: ``(N, C)``.
        batch: targets and weights, which get no gradient.
        settings: parameters; with reduction 'mean' its scale is divided by the
            number of known entries.
        backend: 'native', 'triton' or 'eager'; see :func:`choose_backend`.
        reduction: 'none', 'sum' or 'mean'.
        check: refuse targets out of range (CPU only).
        want_statistics: return :class:`Statistics` of the same pass.

    Raises:
        ValueError: for a target out of range, if ``check``.
    """
    if reduction == 'none':
        return _Entries.apply(logits, batch, settings, backend, check, want_statistics)
    mean = reduction == 'mean'
    if mean:
        settings = replace(settings, scale=settings.scale / max(logits.numel(), 1))
    return _Sum.apply(logits, batch, settings, backend, mean, check, want_statistics)


def choose_backend(impl: str, logits: Tensor) -> str:
    """The backend of an ``impl`` for these logits.

    Raises:
        RuntimeError: if a named ``impl`` can not run here.
    """
    if impl == 'triton' or (impl == 'auto' and logits.is_cuda):
        try:
            from asl_det.losses import triton_kernels
            runs = logits.is_cuda or triton_kernels.INTERPRETED
            if runs and logits.dtype != torch.float64:
                return 'triton'
            reason = f'it needs CUDA logits below float64, and got {logits.dtype} on ' \
                     f'{logits.device}'
        except ImportError as error:
            reason = f'Triton can not be imported ({error})'
        if impl == 'triton':
            raise RuntimeError(f"impl='triton' can not run: {reason}. impl='auto' chooses a path "
                               'that does')
    on_cpu = logits.device.type == 'cpu' and logits.dtype != torch.float64
    return 'native' if on_cpu and native.is_available() else 'eager'


def _wide(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _correction(known: Union[int, Tensor], total: int) -> Union[float, Tensor]:
    return total / (known.clamp(min=1) if isinstance(known, Tensor) else max(known, 1))


def _refuse(bad: int, batch: Batch, settings: Settings, logits: Tensor) -> None:
    if bad >= 0:
        raise target_error(batch.targets, bad, logits.size(1), settings.ignore_index,
                           as_index=batch.targets.dim() == 1)
