"""The loss of a batch: picks the code that computes it, and ties it to autograd.

All of it takes ``logits (N, C)``. The fast paths make value and gradient in one
pass over the logits: closed-form derivatives instead of autograd, class indices
as they are instead of a one-hot target, no full-size temporary besides the
gradient. Backends, all with one signature:

- ``native``: C, compiled once by the machine's compiler: CPU, all but float64;
- ``triton``: CUDA, all but float64;
- ``eager``: the closed form in torch: everything else.
"""

import functools
import importlib
import warnings
from typing import Any, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from asl_det.losses.backends import eager, native
from asl_det.losses.functional import weighted_loss
from asl_det.losses.targets import check_values, dense_targets, target_error
from asl_det.losses.types import (
    Batch,
    Result,
    Settings,
    Statistics,
    is_traced,
    is_watched,
    wide_dtype,
)

IMPLEMENTATIONS = ('auto', 'torch', 'fused', 'triton')


def reduced_loss(logits: Tensor, batch: Batch, settings: Settings, *, impl: str, reduction: str,
                 check: bool, want_statistics: bool) -> Tuple[Tensor, Optional[Statistics]]:
    """The loss, reduced, and its statistics.

    Args:
        logits: ``(N, C)``.
        batch: targets and weights; they get a gradient from impl 'torch' alone.
        settings: parameters; with reduction 'mean' the result is divided by the
            number of known entries.
        impl: one of ``IMPLEMENTATIONS``.
        reduction: 'none', 'sum' or 'mean'.
        check: refuse targets out of range.
        want_statistics: return :class:`Statistics` of the same pass.

    Raises:
        ValueError: for a target out of range, if ``check``; where a named fast
            ``impl`` is to differentiate targets or weights.
        RuntimeError: if a named ``impl`` can not run here.
    """
    backend = choose_backend(impl, logits, batch)
    if check and backend != 'native':  # the compiled pass looks by itself
        check_values(batch.targets, logits.size(-1), settings.ignore_index, batch.as_index)
    if backend == 'torch':
        loss = _reduced_definition(logits, batch, settings, reduction)
        return loss, _statistics(logits, batch, settings) if want_statistics else None
    if reduction == 'mean':
        settings = settings._replace(scale=settings.scale / logits.numel())
    plan = _Plan(backend, reduction, check, want_statistics,
                 wants_grad=logits.requires_grad and torch.is_grad_enabled(),
                 second_derivative=impl == 'auto')
    return _OnePass.apply(logits, batch, settings, plan)


def run(backend: str, logits: Tensor, batch: Batch, settings: Settings, *,
        want_values: bool = False, want_grad: bool = False, want_loss: bool = True,
        want_statistics: bool = False, mean: bool = False,
        upstream: Optional[Tensor] = None) -> Result:
    """One pass of a backend.

    Args:
        backend: 'native', 'triton' or 'eager'.
        logits: ``(N, C)``, any float dtype, not empty.
        batch: targets and weights.
        settings: parameters of the loss.
        want_values: return the loss of every entry, float32 or float64.
        want_grad: return the gradient of the sum, in the dtype of the logits.
        want_loss: return the loss; without it a GPU does not add it up.
        want_statistics: return :class:`Statistics`.
        mean: the scale of the settings divides by all entries; let the loss be divided by
            the known ones instead, and return what the gradient is still to be multiplied by.
        upstream: ``(N, C)``, multiplied into the gradient.
    """
    return _backend(backend).one_pass(
        logits, batch, settings, want_values=want_values, want_grad=want_grad, want_loss=want_loss,
        want_statistics=want_statistics, mean=mean, upstream=upstream)


def choose_backend(impl: str, logits: Tensor, batch: Batch) -> str:
    """'torch' (the definition), 'native', 'triton' or 'eager', for an ``impl`` and a batch.

    Raises:
        ValueError, RuntimeError: see :func:`reduced_loss`.
    """
    if impl == 'torch' or logits.numel() == 0:
        return 'torch'
    beside = any(t is not None and t.requires_grad for t in batch)
    if impl == 'auto' and (beside or is_traced() or is_watched(logits)):
        return 'torch'
    if beside:
        raise ValueError(f"impl={impl!r} gives no gradient to targets or weights, and one of them "
                         "requires it: detach it, or use impl='torch'")
    if impl == 'triton' or (impl == 'auto' and logits.is_cuda):
        problem = _triton_problem(logits.dtype, logits.device)
        if problem is None:
            return 'triton'
        if impl == 'triton':
            raise RuntimeError(f"impl='triton' can not run: {problem}. impl='auto' chooses a path "
                               'that does')
        if logits.dtype != torch.float64:
            warn_once(f'the loss takes its slower path in torch, since Triton can not run: '
                       f'{problem}')
    if logits.device.type == 'cpu' and logits.dtype in native.TYPES \
            and logits.dtype != torch.float64 and native.is_available():
        return 'native'
    return 'eager'


class _Plan(NamedTuple):
    """How a call is computed."""
    backend: str
    reduction: str
    check: bool
    want_statistics: bool
    wants_grad: bool
    second_derivative: bool  # through the definition, if the backward pass is differentiated


class _OnePass(torch.autograd.Function):
    """The reduced loss.

    A sum in float32 or float64 makes its gradient in the forward pass and hands
    it over in the backward pass. In half precision it is made in the backward
    pass, where the incoming factor (a loss scale, say) still saves small values
    from rounding to zero; so it is for single entries, which each get a factor.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, batch: Batch, settings: Settings, plan: _Plan
                ) -> Tuple[Optional[Tensor], Optional[Statistics]]:
        entries = plan.reduction == 'none'
        now = plan.wants_grad and not entries and logits.dtype == wide_dtype(logits.dtype)
        result = run(plan.backend, logits, batch, settings, want_values=entries, want_grad=now,
                     want_statistics=plan.want_statistics, mean=plan.reduction == 'mean')
        if plan.check and result.bad >= 0:
            raise target_error(batch.targets, result.bad, logits.size(1), settings.ignore_index,
                               batch.as_index)
        ctx.save_for_backward(logits, *batch)  # freed with the graph, and guarded against change
        ctx.grad, ctx.settings, ctx.plan = result.grad, settings, plan
        ctx.correction = result.correction
        if entries:
            return result.values, result.statistics
        assert result.loss is not None  # asked for
        return result.loss.to(wide_dtype(logits.dtype)), result.statistics

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: None) -> Tuple[Optional[Tensor], ...]:
        plan: _Plan = ctx.plan
        grad: Optional[Tensor]
        if torch.is_grad_enabled():
            grad = _differentiable_gradient(ctx, upstream)
        elif plan.reduction == 'none':
            logits, *batch = ctx.saved_tensors
            grad = run(plan.backend, logits, Batch(*batch), ctx.settings, want_grad=True,
                       want_loss=False, upstream=upstream).grad
        else:
            grad = _scaled_gradient(ctx, upstream)
        return grad, None, None, None


def _scaled_gradient(ctx: Any, upstream: Tensor) -> Optional[Tensor]:
    """The gradient of a sum times a factor, without waiting for a GPU."""
    backend, correction = ctx.plan.backend, ctx.correction
    on_host = upstream.device.type == 'cpu' and backend != 'triton'
    grad, ctx.grad = ctx.grad, None
    if grad is not None and backend == 'triton':
        return _backend(backend).scale_(grad, upstream, correction)
    factor: Any = upstream.item() if on_host else upstream
    if isinstance(correction, Tensor) or correction != 1:
        factor = factor * correction
    if grad is None:  # half precision, or a second pass through a retained graph
        logits, *batch = ctx.saved_tensors
        batch, settings = Batch(*batch), ctx.settings
        if on_host:
            settings = settings._replace(scale=settings.scale * float(factor))
        else:
            batch = batch._replace(factor=factor if batch.factor is None else batch.factor * factor)
        return run(backend, logits, batch, settings, want_grad=True, want_loss=False).grad
    if not on_host or factor != 1:
        grad *= factor
    return grad


def _differentiable_gradient(ctx: Any, upstream: Tensor) -> Tensor:
    """The gradient as autograd finds it, for create_graph=True."""
    if not ctx.plan.second_derivative:
        raise RuntimeError("this path gives no second derivative (create_graph=True): use "
                           "AsymmetricLoss(impl='torch')")
    logits, *batch = ctx.saved_tensors
    loss = weighted_loss(logits, Batch(*batch), ctx.settings)
    if ctx.plan.reduction != 'none':
        loss = loss.sum() * ctx.correction
    return torch.autograd.grad(loss, logits, upstream, create_graph=True)[0]


def _reduced_definition(logits: Tensor, batch: Batch, settings: Settings, reduction: str) -> Tensor:
    loss = weighted_loss(logits, batch, settings)
    if reduction == 'none':
        return loss
    if reduction == 'sum':
        return loss.sum()
    known = (batch.targets != settings.ignore_index).sum()
    if batch.as_index:
        known = known * logits.size(1)
    return loss.sum() / known.clamp(min=1)


@torch.no_grad()
def _statistics(logits: Tensor, batch: Batch, settings: Settings) -> Statistics:
    """The statistics beside the definition."""
    x = logits.to(wide_dtype(logits.dtype))
    y, known = dense_targets(batch.targets, x, settings.ignore_index)
    counted = known
    for weight in (None if batch.row_weight is None else batch.row_weight.unsqueeze(-1),
                   batch.col_weight, batch.entry_weight):
        if weight is not None:
            counted = counted & (weight != 0)
    return eager.entry_statistics(torch.sigmoid(x), y, counted, settings.clip)


def _triton_problem(dtype: torch.dtype, device: torch.device) -> Optional[str]:
    triton = _backend('triton')
    if triton is None:
        return "Triton can not be imported (python -c 'import triton' says why)"
    if dtype == torch.float64 or not (device.type == 'cuda' or triton.INTERPRETED):
        return f'it needs CUDA logits below float64, and got {dtype} on {device}'
    return triton.problem(device)


@functools.lru_cache(maxsize=None)
def _backend(name: str) -> Any:
    """The module of a backend, or None where what it is made of is missing."""
    try:  # when it is asked for: Triton is heavy, and not everywhere
        return importlib.import_module(f'asl_det.losses.backends.{name}')
    except ImportError:
        return None


@functools.lru_cache(maxsize=None)
def warn_once(message: str) -> None:
    """Warn, unless this was said before in this process."""
    warnings.warn(message, stacklevel=2)
