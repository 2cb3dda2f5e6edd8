"""The asymmetric loss as an MMDetection module."""

import math
import os
from typing import Dict, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from asl_det.losses.adaptive import AdaptiveGamma
from asl_det.losses.functional import (
    asymmetric_loss,
    check_targets,
    dense_targets,
    probability_to_logit,
)
from asl_det.losses.fused import (
    Batch,
    Settings,
    Statistics,
    choose_backend,
    entry_statistics,
    fused_loss,
)
from asl_det.registry import MODELS

Target = Union[Tensor, Tuple[Tensor, Tensor]]
EPS = torch.finfo(torch.float32).eps  # mmdet adds it to avg_factor, which may be 0


@MODELS.register_module()
class AsymmetricLoss(nn.Module):
    r"""Asymmetric loss (ASL) for every sigmoid classification head.

    The equation and its parameters are in
    :func:`asl_det.losses.asymmetric_loss`.

    Args:
        use_sigmoid: must be True. mmdet's heads read it from the config to
            decide on the number of channels, so a config must state it.
        gamma_neg: focusing exponent for negatives, >= 0.
        gamma_pos: focusing exponent for positives, >= 0.
        clip: probability margin in [0, 1): negatives at or below it cost
            nothing and have no gradient.
        alpha: class balance in [0, 1] as in mmdet's ``FocalLoss``: positives
            times ``alpha``, negatives times ``1 - alpha``. None: no balance.
        disable_torch_grad_focal_loss: hold the focusing weights constant in
            the backward pass, as the reference's training script does.
        class_weight: one weight >= 0 per class, applied to every entry of
            that class.
        reduction: 'mean', 'sum' or 'none'.
        loss_weight: factor of the result.
        activated: ``pred`` holds probabilities instead of logits.
        ignore_index: target value for "unknown": such entries contribute
            neither to the sum nor to the count of a mean. Not 0 or 1.
        check_targets: whether target values are checked at every call. None:
            on CPU always, on CUDA only where the environment variable
            ``ASL_DET_CHECK_TARGETS=1`` is set, since reading them
            synchronises the GPU. Never inside ``torch.compile``.
        adaptive: adjust ``gamma_neg`` during training: arguments of
            :class:`~asl_det.losses.adaptive.AdaptiveGamma`, e.g.
            ``dict(delta_p_target=0.1)``. ``gamma_neg`` is where it starts.
        impl: the path that computes it. A named one runs or raises.

            =========  =====================================================
            'auto'     'triton' on CUDA where it runs, else 'fused'; 'torch'
                       inside ``torch.compile`` or if targets or weights need
                       a gradient
            'torch'    the plain definition under autograd: every device and
                       dtype, differentiable twice, the most memory
            'fused'    value and gradient in one pass: compiled C on CPU (one
                       pass of the memory, built at the first call; chunks of
                       torch without a C compiler, in float64 and on GPUs)
            'triton'   the same as one CUDA kernel
            =========  =====================================================

    Attributes:
        statistics: with ``want_statistics = True`` set on the module, the
            :class:`~asl_det.losses.fused.Statistics` of the last call, from
            the same pass and without synchronising a GPU (the plain definition
            takes a pass of its own).

    Raises:
        ValueError: for an argument outside its range.

    Reference:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification,
        ICCV 2021, arXiv 2009.14119.
    """

    def __init__(self,
                 use_sigmoid: bool = True,
                 gamma_neg: float = 4.0,
                 gamma_pos: float = 0.0,
                 clip: float = 0.05,
                 alpha: Optional[float] = None,
                 disable_torch_grad_focal_loss: bool = False,
                 class_weight: Optional[Sequence[float]] = None,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0,
                 activated: bool = False,
                 ignore_index: int = -1,
                 check_targets: Optional[bool] = None,
                 adaptive: Optional[Dict[str, float]] = None,
                 impl: str = 'auto') -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError('AsymmetricLoss got use_sigmoid=False, but it is a sigmoid loss: set '
                             'use_sigmoid=True in the config of the head, or keep a softmax loss')
        clip = 0.0 if clip is None else clip
        require('gamma_neg', gamma_neg, 0 <= gamma_neg < math.inf, 'a number >= 0')
        require('gamma_pos', gamma_pos, 0 <= gamma_pos < math.inf, 'a number >= 0')
        require('clip', clip, 0 <= clip < 1, 'a probability margin in [0, 1)')
        require('alpha', alpha, alpha is None or 0 <= alpha <= 1, 'None or a number in [0, 1]')
        require('ignore_index', ignore_index, ignore_index not in (0, 1),
                'a value that is no target, such as -1')
        require_reduction(reduction)
        require('impl', impl, impl in ('auto', 'torch', 'fused', 'triton'),
                "'auto', 'torch', 'fused' or 'triton'")
        if class_weight is not None:
            class_weight = torch.as_tensor(class_weight, dtype=torch.float32)
            require('class_weight', class_weight.tolist(),
                    class_weight.dim() == 1 and bool((class_weight >= 0).all()),
                    'one number >= 0 per class')
        self.use_sigmoid = use_sigmoid
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos
        self.clip = clip
        self.alpha = alpha
        self.disable_torch_grad_focal_loss = disable_torch_grad_focal_loss
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.activated = activated
        self.ignore_index = ignore_index
        self.check_targets = check_targets
        self.impl = impl
        self.adaptive = None
        if adaptive is not None:
            self.adaptive = AdaptiveGamma(gamma_neg, **adaptive)
        self.want_statistics = adaptive is not None
        self.statistics: Optional[Statistics] = None
        self.register_buffer('class_weight', class_weight, persistent=False)

    def forward(self,
                pred: Tensor,
                target: Target,
                weight: Optional[Tensor] = None,
                avg_factor: Union[float, Tensor, None] = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """The loss of a batch, in float32 (float64 for float64 logits).

        Args:
            pred: logits ``(N, C)`` (probabilities if ``activated``).
            target: class indices ``(N,)`` from 0 to C, where C is background;
                or values in [0, 1] of the shape of ``pred``; or a pair of
                indices ``(N,)`` and scores ``(N,)`` in [0, 1], which stands
                for a soft target at the index (heads built for quality focal
                loss). Any integer, bool or float dtype.
            weight: ``(N,)``, ``(N, C)``, or ``(N * C,)`` flattened.
            avg_factor: divisor of the sum instead of the number of entries,
                with reduction 'mean' only.
            reduction_override: reduction of this call.

        Returns:
            A scalar, or the shape of ``pred`` for reduction 'none'. A mean
            over no known entry is 0 and keeps its graph.

        Raises:
            ValueError: for shapes that do not fit, targets out of range
                (see ``check_targets``), an unknown reduction, or
                ``avg_factor`` together with reduction 'sum'.
        """
        reduction = reduction_override or self.reduction
        require_reduction(reduction)
        if avg_factor is not None and reduction == 'sum':
            raise ValueError("avg_factor can not be used with reduction 'sum'; use 'mean'")
        check = self._checks(pred)
        target = as_tensor(pred, target, self.ignore_index, check)
        if self.class_weight is not None and self.class_weight.numel() != pred.size(-1):
            raise ValueError(f'class_weight has {self.class_weight.numel()} entries, but pred has '
                             f'{pred.size(-1)} classes (shape {tuple(pred.shape)})')
        if weight is not None:
            weight = fit_weight(weight, pred)
        if self.activated:
            pred = probability_to_logit(pred)
        adapts = self.adaptive is not None and self.training and torch.is_grad_enabled()
        if adapts:
            self.gamma_neg = self.adaptive.start_call()
        run = self._plain if pred.numel() == 0 or self._runs_plain(target, weight) else self._fused
        loss = run(pred, target, weight, avg_factor, reduction, check)
        if adapts:
            self.adaptive.end_call(self.statistics, loss)
        return loss

    def _plain(self, pred: Tensor, target: Tensor, weight: Optional[Tensor],
               avg_factor: Union[float, Tensor, None], reduction: str, check: bool) -> Tensor:
        """The definition under autograd, weighted and reduced."""
        as_index = target.dim() == pred.dim() - 1
        if check:
            check_targets(target, pred.size(-1), self.ignore_index, as_index)
        if self.want_statistics:
            with torch.no_grad():
                self.statistics = self._plain_statistics(pred, target, weight)
        loss = asymmetric_loss(
            pred,
            target,
            gamma_pos=self.gamma_pos,
            gamma_neg=self.gamma_neg,
            clip=self.clip,
            alpha=self.alpha,
            disable_torch_grad_focal_loss=self.disable_torch_grad_focal_loss,
            ignore_index=self.ignore_index)
        if self.class_weight is not None:
            loss = loss * self.class_weight.to(loss)
        if weight is not None:
            loss = loss * weight
        if reduction == 'none':
            return self.loss_weight * loss
        total = self.loss_weight * loss.sum()
        if reduction == 'sum':
            return total
        if avg_factor is not None:
            return total / (avg_factor + EPS)
        known = (target != self.ignore_index).sum() * (pred.size(-1) if as_index else 1)
        return total / known.clamp(min=1)

    def _plain_statistics(self, pred: Tensor, target: Tensor,
                          weight: Optional[Tensor]) -> Statistics:
        y, known = dense_targets(target, pred, self.ignore_index)
        counted = known.to(torch.float32)
        for factor in (self.class_weight, weight):
            if factor is not None:
                counted = counted * factor.to(pred.device)
        return entry_statistics(torch.sigmoid(pred), y, counted, self.clip)

    def _fused(self, pred: Tensor, target: Tensor, weight: Optional[Tensor],
               avg_factor: Union[float, Tensor, None], reduction: str, check: bool) -> Tensor:
        """The same with value and gradient in one pass; all factors go into that pass."""
        shape = pred.shape
        cols = shape[-1]
        as_index = target.dim() == pred.dim() - 1
        x = pred
        if pred.dim() != 2:
            x = pred.reshape(-1, cols)
            target = target.reshape(-1) if as_index else target.reshape(-1, cols)
        row_weight = entry_weight = None
        if weight is not None:
            weight = weight.detach()
            if weight.dim() and weight.size(-1) == 1 and cols > 1:
                row_weight = weight.reshape(-1)
            else:
                entry_weight = weight.reshape(-1, cols)
        scale, factor = self.loss_weight, None
        if avg_factor is not None and reduction == 'mean':
            reduction = 'sum'
            if isinstance(avg_factor, Tensor) and avg_factor.device.type != 'cpu':
                factor = 1 / (avg_factor.detach() + EPS)
            else:
                scale = scale / (float(avg_factor) + EPS)
        col_weight = None if self.class_weight is None else self.class_weight.to(pred.device)

        backend = choose_backend(self.impl, x)
        if check and backend != 'native':  # the compiled pass looks by itself
            check_targets(target, cols, self.ignore_index, as_index)
        loss, statistics = fused_loss(
            x,
            Batch(target, row_weight, col_weight, entry_weight, factor),
            Settings(float(self.gamma_pos), float(self.gamma_neg), self.clip, self.alpha,
                     self.disable_torch_grad_focal_loss, self.ignore_index, scale),
            backend=backend,
            reduction=reduction,
            check=check,
            want_statistics=self.want_statistics)
        if self.want_statistics:
            self.statistics = statistics
        return loss.view(shape) if reduction == 'none' else loss

    def _runs_plain(self, target: Tensor, weight: Optional[Tensor]) -> bool:
        """Whether the plain definition is to run."""
        if self.impl == 'torch':
            return True
        beside = [t for t in (target, weight) if t is not None and t.requires_grad]
        if self.impl == 'auto':
            return bool(beside) or _is_compiling()
        if beside:
            raise ValueError(f"impl={self.impl!r} gives no gradient to targets or weights, and one "
                             "of them requires it: detach it, or use impl='torch'")
        return False

    def _checks(self, pred: Tensor) -> bool:
        if _is_compiling():
            return False
        if self.check_targets is not None:
            return self.check_targets
        return not pred.is_cuda or os.environ.get('ASL_DET_CHECK_TARGETS') == '1'

    def extra_repr(self) -> str:
        return (f'gamma_neg={self.gamma_neg}, gamma_pos={self.gamma_pos}, clip={self.clip}, '
                f'alpha={self.alpha}, reduction={self.reduction!r}, '
                f'loss_weight={self.loss_weight}')


def as_tensor(pred: Tensor, target: Target, ignore_index: int, check: bool) -> Tensor:
    """Check the shape of ``target``, and make a pair (indices, scores) a dense one."""
    indices, scores = target if isinstance(target, (tuple, list)) else (target, None)
    as_index = indices.dim() == pred.dim() - 1
    fits = indices.shape == (pred.shape[:-1] if as_index else pred.shape)
    if not fits or (scores is not None and (not as_index or scores.shape != indices.shape)):
        came = f'{tuple(indices.shape)}'
        if scores is not None:
            came = f'the pair {came}, {tuple(scores.shape)}'
        raise ValueError(f'target has shape {came}, but pred has {tuple(pred.shape)}: expected '
                         f'class indices {tuple(pred.shape[:-1])} or the shape of pred')
    if scores is None:
        return indices
    num_classes = pred.size(-1)
    if check:
        check_targets(indices, num_classes, ignore_index, as_index=True)
        check_targets(scores, num_classes, ignore_index, as_index=False)
    labels = indices.long()
    foreground = (labels >= 0) & (labels < num_classes) & (labels != ignore_index)
    soft = torch.zeros(pred.shape, dtype=torch.float32, device=pred.device)
    soft = soft.scatter(-1, torch.where(foreground, labels, 0).unsqueeze(-1),
                        torch.where(foreground, scores.float(), 0).unsqueeze(-1))
    return soft.masked_fill((labels == ignore_index).unsqueeze(-1), ignore_index)


def fit_weight(weight: Tensor, loss: Tensor) -> Tensor:
    """``weight`` as a shape that broadcasts against ``loss`` without repeating it."""
    if weight.shape == loss.shape:
        return weight
    if weight.shape == loss.shape[:-1]:
        return weight.unsqueeze(-1)
    if weight.shape == (*loss.shape[:-1], 1):
        return weight
    if weight.numel() == loss.numel():
        return weight.reshape(loss.shape)
    raise ValueError(f'weight has shape {tuple(weight.shape)}, but pred has {tuple(loss.shape)}: '
                     f'expected {tuple(loss.shape[:-1])}, {tuple(loss.shape)} or '
                     f'({loss.numel()},)')


def _is_compiling() -> bool:
    compiler = getattr(torch, 'compiler', None)  # is_compiling is there since torch 2.1
    return hasattr(compiler, 'is_compiling') and compiler.is_compiling()


def require(name: str, value: object, ok: bool, expected: str) -> None:
    if not ok:
        raise ValueError(f'{name}={value!r}: expected {expected}')


def require_reduction(reduction: str) -> None:
    require('reduction', reduction, reduction in ('mean', 'sum', 'none'),
            "'mean', 'sum' or 'none'")
