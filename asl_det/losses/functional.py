"""The asymmetric loss as an equation in plain torch.

This file is the definition: every faster path is checked against it.
"""

from typing import Optional, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from asl_det.losses.targets import dense_targets, is_index, require_tensor
from asl_det.losses.types import Batch, Settings, margin_logit, wide_dtype


def asymmetric_loss(logits: Tensor,
                    targets: Tensor,
                    *,
                    gamma_pos: float,
                    gamma_neg: Union[float, Tensor],
                    clip: float,
                    alpha: Optional[float] = None,
                    disable_torch_grad_focal_loss: bool = False,
                    activated: bool = False,
                    ignore_index: int = -1) -> Tensor:
    r"""Asymmetric loss of every entry, unreduced.

    With :math:`p = \sigma(x)`, margin :math:`m` = ``clip`` and
    :math:`p_m = \max(p - m, 0)`:

    .. math::
        L = -y (1 - p)^{\gamma_+} \log p
            - (1 - y) p_m^{\gamma_-} \log(1 - p_m)

    Special cases: all three parameters 0 is binary cross-entropy; equal
    gammas without a margin are focal loss.

    Args:
        logits: ``(N, C)``, or any shape that ``targets`` shares; the last
            axis is the classes. Half precision is computed in float32.
        targets: values in [0, 1] of the shape of ``logits`` (multi-hot or
            soft: a convex mix of both branches), or class indices ``(N,)``,
            integers, for logits ``(N, C)``, where ``C`` stands for
            background.
        gamma_pos: focusing exponent of the positive branch, >= 0.
        gamma_neg: focusing exponent of the negative branch, >= 0.
        clip: probability margin in [0, 1). Negatives with ``p <= clip`` cost
            nothing and have no gradient.
        alpha: class balance in [0, 1]; positives are multiplied by ``alpha``
            and negatives by ``1 - alpha``. ``None`` leaves both alone.
        disable_torch_grad_focal_loss: treat the focusing weights as constants
            in the backward pass.
        activated: ``logits`` holds probabilities. Those outside
            [1e-12, 1 - 6e-8] saturate and have no gradient, so prefer logits.
        ignore_index: targets of this value are unknown and cost nothing.

    Returns:
        The loss of every entry, of the shape of ``logits``, float32 (float64
        for float64 logits). Values are not checked here;
        :class:`~asl_det.losses.AsymmetricLoss` does.

    Raises:
        TypeError: for tensors that are not dense ones of real numbers.
        ValueError: for targets of another shape, or of one that could mean
            both forms.

    Reference:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification,
        ICCV 2021, arXiv 2009.14119.
    """
    require_tensor('logits', logits, logits, floating=True)
    require_tensor('targets', targets, logits)
    is_index(targets, logits, 'targets', 'logits')
    x = probability_to_logit(logits) if activated else logits
    x = x.to(wide_dtype(x.dtype))
    y, known = dense_targets(targets, x, ignore_index)
    constant = disable_torch_grad_focal_loss
    x_pos, x_neg = x, x
    if not targets.requires_grad:
        # Each branch sees its own entries alone: what is infinite in the other is 0 * inf there.
        x_pos, x_neg = torch.where(known & (y != 0), x, 0), torch.where(known & (y != 1), x, 0)
    positive = _plain_branch(-x_pos, gamma_pos, constant)
    if clip == 0:
        negative = _plain_branch(x_neg, gamma_neg, constant)
    else:
        negative = _margin_branch(x_neg, gamma_neg, clip, constant)
    if alpha is not None:
        positive, negative = alpha * positive, (1 - alpha) * negative
    return torch.where(known, y * positive + (1 - y) * negative, 0)


def weighted_loss(logits: Tensor, batch: Batch, settings: Settings) -> Tensor:
    """The loss of every entry times all weights and the scale of the settings.

    Entries of weight 0 cost nothing whatever their logit is.
    """
    weight = None
    for factor in (None if batch.row_weight is None else batch.row_weight.unsqueeze(-1),
                   batch.col_weight, batch.entry_weight):
        if factor is not None:
            factor = factor.to(wide_dtype(logits.dtype))
            weight = factor if weight is None else weight * factor
    if weight is not None and not weight.requires_grad:
        logits = torch.where(weight != 0, logits, 0)
    loss = asymmetric_loss(
        logits, batch.targets, gamma_pos=settings.gamma_pos, gamma_neg=settings.gamma_neg,
        clip=settings.clip, alpha=settings.alpha,
        disable_torch_grad_focal_loss=settings.constant_focus, ignore_index=settings.ignore_index)
    if weight is not None:
        loss = loss * weight
    if batch.factor is not None:
        loss = loss * batch.factor
    return settings.scale * loss


def probability_to_logit(p: Tensor) -> Tensor:
    """Logits, in float32 or float64, of probabilities kept within [1e-12, 1 - 6e-8]."""
    p = p if p.dtype == torch.float64 else p.float()
    p = p.clamp(1e-12, 1 - torch.finfo(torch.float32).eps / 2)
    return p.log() - torch.log1p(-p)


def shifted_probability(x: Tensor, clip: float) -> Tuple[Tensor, Tensor]:
    """Where ``sigmoid(x) > clip``, and ``sigmoid(x) - clip`` there (elsewhere 0.5).

    The difference cancels next to the margin; with ``t = logit(clip)`` it is
    ``p * (1 - clip) * (1 - exp(t - x))``, which keeps full relative precision
    when ``t`` is carried in two parts.
    """
    high, low = margin_logit(clip)
    distance = (x - high) - low
    above = ~(distance <= 0)  # so that NaN stays NaN
    # The stand-in keeps pow and log away from 0, where their gradients are not finite.
    distance = torch.where(above, distance, 1)
    p = torch.exp(F.logsigmoid(x))  # the derivative of torch.sigmoid is rough near 1
    # Two forms of 1 - exp(-distance): value or derivative cancels in the other one.
    rise = torch.where(distance < 1, -torch.expm1(-distance), 1 - torch.exp(-distance))
    p_m = p * (1 - clip) * rise
    return above, torch.where(above, p_m.clamp_min(torch.finfo(x.dtype).tiny), 0.5)


def _plain_branch(x: Tensor, gamma: Union[float, Tensor], constant: bool) -> Tensor:
    """``p^gamma * -log(1 - p)``: the negative branch; the positive one at ``-x``."""
    cost = -F.logsigmoid(-x)
    if not isinstance(gamma, Tensor) and gamma == 0:
        return cost
    # Far on the right the weight is 1, and its derivative would be 0 * inf at infinity.
    weight = torch.where(x > 1000, 1, torch.exp(gamma * F.logsigmoid(x)))
    return (weight.detach() if constant else weight) * cost


def _margin_branch(x: Tensor, gamma: Union[float, Tensor], clip: float, constant: bool) -> Tensor:
    """The same with ``max(p - clip, 0)`` in the place of p."""
    above, p_m = shifted_probability(x, clip)
    weight = p_m**gamma
    # Two forms of log(1 - p_m), each exact where the other cancels.
    cost = -torch.where(p_m < 0.5, torch.log1p(-p_m), torch.log(torch.sigmoid(-x) + clip))
    return torch.where(above, (weight.detach() if constant else weight) * cost, 0)
