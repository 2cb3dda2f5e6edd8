"""Sigmoid focal loss of class indices.

An index of no class, the background ``C`` or a negative one, is a row of
negatives. Logarithms end at that of the smallest normal float, as in mmcv;
probabilities near 1 keep the digits that mmcv loses.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_TINY = math.log(torch.finfo(torch.float32).tiny)


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *,
                               gamma: float, alpha: float) -> None:
    positive, signed, share = _terms(input, target, weight, alpha)
    log = F.logsigmoid(signed).clamp(min=LOG_TINY)
    output.copy_(-share * torch.sigmoid(-signed)**gamma * log)


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                *, gamma: float, alpha: float) -> None:
    positive, signed, share = _terms(input, target, weight, alpha)
    log = F.logsigmoid(signed).clamp(min=LOG_TINY)
    p, q = torch.sigmoid(signed), torch.sigmoid(-signed)
    grad = share * q**gamma * (gamma * p * log - q)
    grad_input.copy_(torch.where(positive, grad, -grad))


def _terms(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple:
    """Which entries are positive, logits of being right, and their shares."""
    classes = input.size(1)
    if target.numel() and target.max() > classes:
        raise ValueError(
            f'label {int(target.max())}: expected at most {classes}, the background')
    x = input if input.dtype == torch.float64 else input.float()
    positive = target.unsqueeze(1) == torch.arange(classes, device=target.device)
    share = torch.where(positive, x.new_tensor(alpha), x.new_tensor(1 - alpha))
    if weight.numel():  # one weight per class, taken at the target
        row = weight[target.clamp(0, classes - 1)].to(x)
        known = (target >= 0) & (target < classes)
        share = share * torch.where(known, row, 1).unsqueeze(1)
    return positive, torch.where(positive, x, -x), share
