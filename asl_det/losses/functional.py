"""The asymmetric loss as an equation in plain torch.

This file is the definition: every faster path is checked against it.
"""

import math
from typing import Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def asymmetric_loss(logits: Tensor,
                    targets: Tensor,
                    *,
                    gamma_pos: float,
                    gamma_neg: float,
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
        logits: ``(N, C)``, or any shape that ``targets`` shares. Half
            precision is computed in float32.
        targets: values in [0, 1] of the shape of ``logits`` (multi-hot or
            soft: a convex mix of both branches), or class indices ``(N,)``
            for logits ``(N, C)``, where ``C`` stands for background.
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

    Reference:
        Ridnik et al., Asymmetric Loss For Multi-Label Classification,
        ICCV 2021, arXiv 2009.14119.
    """
    x = probability_to_logit(logits) if activated else logits
    x = x if x.dtype == torch.float64 else x.float()
    y, known = dense_targets(targets, x, ignore_index)

    weight = torch.exp(gamma_pos * F.logsigmoid(-x))
    positive = _focus(weight, disable_torch_grad_focal_loss) * -F.logsigmoid(x)

    if clip == 0:
        weight = torch.exp(gamma_neg * F.logsigmoid(x))
        negative = _focus(weight, disable_torch_grad_focal_loss) * -F.logsigmoid(-x)
    else:
        above, p_m = shifted_probability(x, clip)
        weight = p_m**gamma_neg
        # Two forms of log(1 - p_m), each exact where the other cancels.
        log_not_p_m = torch.where(p_m < 0.5, torch.log1p(-p_m), torch.log(torch.sigmoid(-x) + clip))
        negative = _focus(weight, disable_torch_grad_focal_loss) * -log_not_p_m
        negative = torch.where(above, negative, 0)

    if alpha is not None:
        positive, negative = alpha * positive, (1 - alpha) * negative
    return torch.where(known, y * positive + (1 - y) * negative, 0)


def probability_to_logit(p: Tensor) -> Tensor:
    """Logits, in float32 or float64, of probabilities kept within [1e-12, 1 - 6e-8]."""
    p = p if p.dtype == torch.float64 else p.float()
    p = p.clamp(1e-12, 1 - torch.finfo(torch.float32).eps / 2)
    return p.log() - torch.log1p(-p)


def dense_targets(targets: Tensor, logits: Tensor, ignore_index: int) -> Tuple[Tensor, Tensor]:
    """Targets of the shape and dtype of ``logits`` and the mask of the known ones.

    ``targets`` is dense already, or class indices ``(N,)`` with background C.
    """
    if not targets.is_floating_point():
        targets = targets.long()  # so that unsigned labels compare with -1
    known = targets != ignore_index
    if targets.dim() == logits.dim():
        return torch.where(known, targets, 0).to(logits.dtype), known
    num_classes = logits.size(-1)
    labels = torch.where(known, targets, num_classes).long()
    y = F.one_hot(labels, num_classes + 1)[..., :num_classes].to(logits.dtype)
    return y, known.unsqueeze(-1)


def shifted_probability(x: Tensor, clip: float) -> Tuple[Tensor, Tensor]:
    """Where ``sigmoid(x) > clip``, and ``sigmoid(x) - clip`` there (elsewhere 0.5).

    The difference cancels next to the margin; with ``t = logit(clip)`` it is
    ``p * (1 - clip) * (1 - exp(t - x))``, which keeps full relative precision
    when ``t`` is carried in two parts.
    """
    t = math.log(clip) - math.log1p(-clip)
    t_high = round(t * 2**16) / 2**16  # exact in float32
    distance = (x - t_high) - (t - t_high)
    above = ~(distance <= 0)  # so that NaN stays NaN
    # The stand-in keeps pow and log away from 0, where their gradients are not finite.
    distance = torch.where(above, distance, 1)
    p = torch.exp(F.logsigmoid(x))  # the derivative of torch.sigmoid is rough near 1
    # Two forms of 1 - exp(-distance): value or derivative cancels in the other one.
    rise = torch.where(distance < 1, -torch.expm1(-distance), 1 - torch.exp(-distance))
    p_m = p * (1 - clip) * rise
    return above, torch.where(above, p_m.clamp_min(torch.finfo(x.dtype).tiny), 0.5)


def check_targets(targets: Tensor, num_classes: int, ignore_index: int, as_index: bool) -> None:
    """Raise ValueError for the first target out of range; synchronises a GPU."""
    values = targets if targets.is_floating_point() else targets.long()
    high = num_classes if as_index else 1
    bad = ~((values >= 0) & (values <= high)) & (values != ignore_index)
    if bad.any():
        position = int(bad.reshape(-1).nonzero()[0])
        raise target_error(targets, position, num_classes, ignore_index, as_index)


def target_error(targets: Tensor, position: int, num_classes: int, ignore_index: int,
                 as_index: bool) -> ValueError:
    """The error for the value at a flat position of ``targets``, which is out of range."""
    value = targets.reshape(-1)[position].item()
    where = [int(i) for i in np.unravel_index(position, tuple(targets.shape))]
    name, high, meaning = 'target', 1, 'probabilities or 0 / 1'
    if as_index:
        name, high, meaning = 'class index', num_classes, f'{num_classes} stands for background'
    return ValueError(f'{name} {value:g} at position {where}: expected 0 to {high} ({meaning}), '
                      f'or ignore_index {ignore_index}')


def _focus(weight: Tensor, constant: bool) -> Tensor:
    return weight.detach() if constant else weight
