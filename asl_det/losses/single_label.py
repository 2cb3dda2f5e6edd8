"""The asymmetric loss for softmax classifiers."""

from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from asl_det.losses.arguments import (
    class_weights,
    require_class_count,
    require_flag,
    require_gamma,
    require_ignore_index,
    require_number,
    require_reduction,
)
from asl_det.losses.module import EPS, Loss
from asl_det.losses.targets import Values, as_tensor, check_weight, is_index, require_tensor
from asl_det.losses.types import is_traced, is_watched, wide_dtype


class AsymmetricLossSingleLabel(Loss):
    r"""Asymmetric focusing of the softmax cross-entropy with label smoothing.

    With :math:`p = \mathrm{softmax}(x)` over C classes, label ``t`` and the
    smoothed target :math:`s_c = (1 - \epsilon) [c = t] + \epsilon / C`:

    .. math::
        L = -s_t (1 - p_t)^{\gamma_+} \log p_t
            - \sum_{c \ne t} s_c \, p_c^{\gamma_-} \log p_c

    ``gamma_pos = 0, eps = 0`` is cross-entropy, both gammas 0 is
    cross-entropy with label smoothing.

    Args:
        use_sigmoid: must be False; mmdet's heads read it and then predict
            C + 1 channels, background last.
        gamma_pos: focusing exponent of the label, >= 0.
        gamma_neg: focusing exponent of the other classes, >= 0; acts through
            the smoothing alone.
        eps: label smoothing in [0, 1).
        class_weight: one weight >= 0 per channel, float32 in a model of any
            dtype; a row takes the one of its label.
        reduction: 'mean', 'sum' or 'none'.
        loss_weight: factor of the result.
        ignore_index: label of rows that cost nothing and do not count.

    Raises:
        ValueError: for an argument out of range.

    Reference:
        Ridnik et al., ICCV 2021, arXiv 2009.14119, and the single-label loss
        of its reference implementation.
    """

    def __init__(self, use_sigmoid: bool = False, gamma_pos: float = 0.0, gamma_neg: float = 4.0,
                 eps: float = 0.1, class_weight: Optional[Sequence[float]] = None,
                 reduction: str = 'mean', loss_weight: float = 1.0,
                 ignore_index: int = -100) -> None:
        super().__init__()
        require_flag('use_sigmoid', use_sigmoid)
        if use_sigmoid:
            raise ValueError('AsymmetricLossSingleLabel got use_sigmoid=True, but it is a softmax '
                             'loss: set use_sigmoid=False, or use AsymmetricLoss')
        require_gamma('gamma_pos', gamma_pos)
        require_gamma('gamma_neg', gamma_neg)
        require_number('eps', eps, 'a label smoothing in [0, 1)', 0, below=1)
        require_number('loss_weight', loss_weight, 'a number >= 0', 0)
        require_ignore_index(ignore_index)
        require_reduction(reduction)
        self.use_sigmoid = use_sigmoid
        self.gamma_pos = gamma_pos
        self.gamma_neg = gamma_neg
        self.eps = eps
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index
        self.register_buffer('class_weight', class_weights(class_weight), persistent=False)

    def forward(self, pred: Tensor, target: Values, weight: Optional[Values] = None,
                avg_factor: Union[float, Tensor, None] = None,
                reduction_override: Optional[str] = None, **kwargs: object) -> Tensor:
        """The loss of a batch, in float32 or better.

        Args:
            pred: logits ``(N, C)``, background included; a class at -inf is
                masked and takes no share of the smoothing.
            target: labels ``(N,)`` from 0 to C - 1, integers, or
                ``ignore_index``.
            weight: ``(N,)``.
            avg_factor: divisor of the sum instead of the number of rows.
            reduction_override: reduction of this call.
            **kwargs: taken and not used, as mmdet's softmax losses do
                (``ignore_index`` among them).

        Returns:
            A scalar, or ``(N,)`` for reduction 'none'.

        Raises:
            TypeError: for what is no dense tensor of real numbers.
            ValueError: for shapes that do not fit, float or bool labels, an
                unknown reduction, or ``avg_factor`` together with reduction
                'sum'. On CPU for labels out of range too.
        """
        reduction = reduction_override or self.reduction
        require_reduction(reduction, avg_factor)
        require_tensor('pred', pred, pred, floating=True)
        target = as_tensor('target', target, pred)
        if pred.dim() != 2 or target.shape != pred.shape[:1]:
            raise ValueError(f'expected logits (N, C) and labels (N,), got {tuple(pred.shape)} and '
                             f'{tuple(target.shape)}')
        is_index(target, pred)
        require_class_count(self.class_weight, pred)
        target = target.long()  # so that unsigned labels compare with -100
        known = target != self.ignore_index
        look = pred.device.type == 'cpu' and not is_traced() and not is_watched(pred)
        if look:
            bad = target[known & ~((target >= 0) & (target < pred.size(1)))]
            if len(bad):
                raise ValueError(f'label {bad[0].item()}: labels go from 0 to {pred.size(1) - 1}, '
                                 f'or are {self.ignore_index} (ignored)')
        index = torch.where(known, target, 0)
        factor = known.to(wide_dtype(pred.dtype))
        if self.class_weight is not None:
            factor = factor * self.class_weight.to(factor)[index]
        if weight is not None:
            weight = as_tensor('weight', weight, pred)
            if look:
                check_weight(weight)
            if weight.shape != target.shape:
                raise ValueError(f'weight has shape {tuple(weight.shape)}: expected '
                                 f'{tuple(target.shape)}, one a row')
            factor = factor * weight.to(factor)
        counted = factor != 0
        log_p = torch.where(counted.unsqueeze(1), pred.to(factor.dtype), 0).log_softmax(1)
        loss = torch.where(counted, self._entries(log_p, index), 0) * factor * self.loss_weight
        if reduction == 'none':
            return loss
        if reduction == 'sum':
            return loss.sum()
        if avg_factor is not None:
            return loss.sum() / (avg_factor + EPS)
        return loss.sum() / known.sum().clamp(min=1)

    def _entries(self, log_p: Tensor, index: Tensor) -> Tensor:
        """The loss of every row from log probabilities ``(N, C)``."""
        share = self.eps / log_p.size(1)
        log_pt = log_p.gather(1, index.unsqueeze(1)).squeeze(1)
        # 1 - p_t without cancellation; never 0, where a power below 1 has no derivative.
        rest = (-torch.expm1(log_pt)).clamp(min=torch.finfo(log_p.dtype).tiny)
        focus = rest**self.gamma_pos if self.gamma_pos else 1.0
        loss = -(1 - self.eps + share) * focus * log_pt
        if share:
            log_p = torch.where(log_p == -torch.inf, 0, log_p)  # masked classes take no share
            others = torch.exp(self.gamma_neg * log_p) * log_p
            at_label = others.gather(1, index.unsqueeze(1)).squeeze(1)
            loss = loss - share * (others.sum(1) - at_label)
        return loss

    def extra_repr(self) -> str:
        return (f'gamma_pos={self.gamma_pos}, gamma_neg={self.gamma_neg}, eps={self.eps}, '
                f'reduction={self.reduction!r}, loss_weight={self.loss_weight}')
