"""Checks of the arguments of the loss modules."""

import math
from numbers import Integral, Real
from typing import Optional, Sequence, Type

import torch
from torch import Tensor

from asl_det.losses.types import is_traced

REDUCTIONS = ('mean', 'sum', 'none')


def require(name: str, value: object, ok: bool, expected: str) -> None:
    """Raise ValueError unless ``ok``."""
    if not ok:
        raise ValueError(f'{name}={value!r}: expected {expected}')


def require_number(name: str, value: object, expected: str, low: float = -math.inf,
                   high: float = math.inf, *, below: float = math.inf,
                   kind: Type = Real) -> None:
    """Raise unless ``low <= value <= high``, ``value < below`` and it is finite.

    Raises:
        TypeError: for what is no number (text, None, a list, a truth value).
        ValueError: for a number out of range.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f'{name}={value!r} ({type(value).__name__}): expected {expected}')
    require(name, value, math.isfinite(value) and low <= value <= high and value < below, expected)


def require_flag(name: str, value: object) -> None:
    """Raise TypeError for what is no truth value: any text would count as True."""
    if not isinstance(value, bool):
        raise TypeError(f'{name}={value!r} ({type(value).__name__}): expected True or False')


def require_gamma(name: str, value: object) -> None:
    require_number(name, value, 'a number >= 0', 0)


def require_ignore_index(value: object, *, targets: Sequence[int] = ()) -> None:
    require_number('ignore_index', value, 'a whole number that is no target, such as -1',
                   kind=Integral)
    require('ignore_index', value, value not in targets, 'a value that is no target, such as -1')


def require_reduction(reduction: str, avg_factor: object = None) -> None:
    require('reduction', reduction, reduction in REDUCTIONS, "'mean', 'sum' or 'none'")
    if avg_factor is None:
        return
    if reduction == 'sum':
        raise ValueError("avg_factor can not be used with reduction 'sum'; use 'mean'")
    if isinstance(avg_factor, Tensor):
        if avg_factor.numel() != 1 or avg_factor.is_complex():
            raise ValueError(f'avg_factor has shape {tuple(avg_factor.shape)}: expected one '
                             'number, the divisor of the sum')
        if avg_factor.device.type != 'cpu' or is_traced():
            return  # reading it would wait for the device
        avg_factor = avg_factor.item()
        if math.isnan(avg_factor):  # of a network that has diverged: the loss says so
            return
    require_number('avg_factor', avg_factor, 'the divisor of the sum, a number >= 0', 0)


def class_weights(values: Optional[Sequence[float]]) -> Optional[Tensor]:
    """``class_weight`` as a float32 tensor ``(C,)``, or None."""
    if values is None:
        return None
    try:
        weights = torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f'class_weight={values!r}: expected one number >= 0 per class') from None
    good = (weights >= 0) & weights.isfinite()
    require('class_weight', values, weights.dim() == 1 and bool(good.all()),
            'one number >= 0 per class')
    return weights


def require_class_count(weights: Optional[Tensor], pred: Tensor) -> None:
    if weights is not None and weights.numel() != pred.size(-1):
        raise ValueError(f'class_weight has {weights.numel()} entries, but pred has '
                         f'{pred.size(-1)} classes (shape {tuple(pred.shape)})')
