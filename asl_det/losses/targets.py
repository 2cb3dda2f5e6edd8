"""Targets and weights: what a call may hand over, and what the loss makes of it."""

import math
import os
from numbers import Real
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.masked import MaskedTensor

from asl_det.losses.types import Batch, is_traced, is_watched

try:
    import numpy as np
except ModuleNotFoundError:  # torch does without, and then nobody has an array
    ARRAYS: Tuple[type, ...] = ()
else:
    ARRAYS = (np.ndarray, np.generic)

if TYPE_CHECKING:
    from numpy import ndarray

# What becomes a tensor or, as a target, two: sequences hold numbers, others of them, or the pair.
Values = Union[Tensor, 'ndarray', Sequence[Any]]


def fit_target(target: Values, pred: Tensor, ignore_index: int, check: bool) -> Tensor:
    """Class indices ``(N,)`` or dense targets of the shape of ``pred``.

    Args:
        target: either of them, see :func:`is_index`, or a pair of labels and
            scores ``(N,)``, which becomes dense; tensors, numpy arrays or
            lists of numbers.
        pred: logits ``(..., C)``.
        ignore_index: value of unknown targets.
        check: look at the values that are converted here, which synchronises
            a GPU; the others are left to :func:`check_values`.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for another shape, dtype or device; if ``check``, for a
            value out of range.
    """
    pair = isinstance(target, (tuple, list)) and len(target) == 2 and all(
        isinstance(part, (Tensor, *ARRAYS)) for part in target)
    if pred.dim() == 0:
        raise ValueError('pred is a single number: expected logits (N, C)')
    labels, scores = target if pair else (target, None)
    name = 'the labels of target' if pair else 'target'
    labels = as_tensor(name, labels, pred)
    if scores is not None:
        scores = as_tensor('the scores of target', scores, pred)
        if not labels.shape == scores.shape == pred.shape[:-1]:
            raise ValueError(f'target is the pair {tuple(labels.shape)}, {tuple(scores.shape)}, '
                             f'but pred has {tuple(pred.shape)}: expected class indices and scores '
                             f'{tuple(pred.shape[:-1])}')
        if not scores.is_floating_point():
            raise ValueError(f'the scores of target have dtype {scores.dtype}: expected class '
                             'indices and then scores, as floats; rows of a dense target go in '
                             'one tensor (torch.stack)')
    elif pred.dim() == 1 and labels.dim() == 1 and is_integer(labels):
        raise ValueError(f'pred has shape {tuple(pred.shape)} and target is {labels.dtype}: class '
                         'indices need logits (N, C); for one class give pred.unsqueeze(1), where '
                         'index 0 is the class and 1 the background, or target.float()')
    as_index = is_index(labels, pred, name)
    num_classes = pred.size(-1)
    if as_index and 0 <= ignore_index <= num_classes:
        raise ValueError(f'ignore_index={ignore_index} is a label of these {num_classes} classes '
                         f'(0 to {num_classes - 1}; {num_classes} stands for background): choose '
                         'one outside, such as -1')
    if scores is None:
        return labels
    if check:
        check_values(labels, num_classes, ignore_index, as_index=True)
        check_values(scores, num_classes, ignore_index, as_index=False)
    labels = labels.long()
    foreground = (labels >= 0) & (labels < num_classes)
    soft = torch.zeros(pred.shape, dtype=torch.float32, device=pred.device)
    soft = soft.scatter(-1, torch.where(foreground, labels, 0).unsqueeze(-1),
                        torch.where(foreground, scores.float(), 0).unsqueeze(-1))
    return soft.masked_fill((labels == ignore_index).unsqueeze(-1), ignore_index)


def is_index(target: Tensor, pred: Tensor, name: str = 'target', of: str = 'pred') -> bool:
    """Whether a target holds class indices ``(N,)``; else it is dense, of the shape of ``pred``.

    Class indices are integers of the shape of ``pred (..., C)`` without its
    last axis. Shape and dtype tell; the values are not looked at. Without
    rows the dtype says nothing.

    Args:
        target, pred: tensors.
        name, of: what the caller calls them.

    Raises:
        ValueError: for another shape, or for what a shape alone would decide.
    """
    if target.shape == pred.shape:
        return False
    came = f'{name} has shape {tuple(target.shape)}, but {of} has {tuple(pred.shape)}'
    if may_be_rows(target, pred, name, of):
        if is_integer(target) or not target.numel():  # of no image, torch.tensor([]) is float
            return True
        dense = (f'for values of the one class give {name}[:, None]' if pred.size(1) == 1 else
                 f'values of the {pred.size(1)} classes have the shape of {of}')
        raise ValueError(f'{came}, and its dtype is {target.dtype}: {dense}; class indices are '
                         f'integers, {name}.long()')
    raise ValueError(f'{came}: expected class indices {tuple(pred.shape[:-1])} or the shape of '
                     f'{of}, whose last axis is the classes')


def may_be_rows(values: Tensor, pred: Tensor, name: str, of: str = 'pred') -> bool:
    """Whether there is a value for every row of ``pred (..., C)``.

    Raises:
        ValueError: where they fit, too or only, logits with the classes on
            the second axis, as torch's cross-entropy has them.
    """
    if pred.dim() > 2 and values.shape == pred.shape[:1] + pred.shape[2:]:
        raise ValueError(f'{name} has shape {tuple(values.shape)} and {of} {tuple(pred.shape)}: '
                         'the classes are the last axis. If that is meant, give '
                         f'{of}.flatten(0, -2) and {name}.flatten(); if they are the second, '
                         f'{of}.movedim(1, -1) first')
    return values.shape == pred.shape[:-1]


def is_integer(target: Tensor) -> bool:
    """Whether a dtype is one of class indices."""
    return not target.is_floating_point() and target.dtype != torch.bool


def fit_weight(weight: Values, pred: Tensor, check: bool) -> Tensor:
    """``weight`` as a shape that broadcasts against ``pred (..., C)`` without repeating it.

    Args:
        weight: a tensor, a numpy array or a list of numbers.
        pred: logits ``(..., C)``.
        check: look at the values, which synchronises a GPU.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for another shape or device; if ``check``, for a weight
            that is negative or not finite.
    """
    weight = as_tensor('weight', weight, pred)
    if check:
        check_weight(weight)
    if weight.shape == pred.shape:
        return weight
    if weight.shape == (*pred.shape[:-1], 1):
        return weight
    if may_be_rows(weight, pred, 'weight'):
        return weight.unsqueeze(-1)
    if weight.dim() == 1 and weight.numel() == pred.numel():
        return weight.reshape(pred.shape)
    turned = ', and it is transposed' if weight.shape == pred.shape[::-1] else ''
    raise ValueError(f'weight has shape {tuple(weight.shape)}, but pred has {tuple(pred.shape)}'
                     f'{turned}: expected {tuple(pred.shape[:-1])}, {tuple(pred.shape)} or '
                     f'({pred.numel()},)')


def flatten(pred: Tensor, target: Tensor, weight: Optional[Tensor]) -> Tuple[Tensor, Batch]:
    """Logits ``(N, C)`` of ``pred (..., C)``, and fitted targets and weights beside them."""
    cols, per_row = pred.size(-1), weight is not None and weight.size(-1) == 1
    if pred.dim() != 2:
        rows = math.prod(pred.shape[:-1])
        target = target.reshape(rows) if target.dim() < pred.dim() else target.reshape(rows, cols)
        pred = pred.reshape(rows, cols)
        weight = None if weight is None else weight.reshape(rows, 1 if per_row else cols)
    if weight is not None and per_row and cols > 1:
        return pred, Batch(target, row_weight=weight.squeeze(1))
    return pred, Batch(target, entry_weight=weight)


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


def codes_absent_as_unknown(target: Tensor, ignore_index: int) -> Optional[bool]:
    """Whether dense targets have unknowns and positives but no 0; None where neither is told.

    Synchronises a GPU.
    """
    if (target == 0).any():
        return False
    both = target.numel() and (target == ignore_index).any() and (target == 1).any()
    return True if both else None


def is_checked(pred: Tensor, setting: Optional[bool]) -> bool:
    """Whether target values are looked at; see ``check_targets`` of the loss."""
    if is_traced() or is_watched(pred) or pred.is_meta:
        return False
    if setting is not None:
        return setting
    return not pred.is_cuda or os.environ.get('ASL_DET_CHECK_TARGETS') == '1'


def check_values(targets: Tensor, num_classes: int, ignore_index: int, as_index: bool) -> None:
    """Raise ValueError for the first target out of range; synchronises a GPU."""
    values = targets if targets.is_floating_point() else targets.long()
    good = (values >= 0) & (values <= (num_classes if as_index else 1))
    bad = ~(good | (values == ignore_index))
    if bad.any():
        position = int(bad.reshape(-1).nonzero()[0])
        raise target_error(targets, position, num_classes, ignore_index, as_index)


def target_error(targets: Tensor, position: int, num_classes: int, ignore_index: int,
                 as_index: bool) -> ValueError:
    """The error for the value at a flat position of ``targets``, which is out of range."""
    value = targets.reshape(-1)[position].item()
    where = _indices(position, targets.shape)
    name, high, meaning = 'target', 1, 'probabilities or 0 / 1'
    if as_index:
        name, high, meaning = 'class index', num_classes, f'{num_classes} stands for background'
    return ValueError(f'{name} {value:g} at position {where}: expected 0 to {high} ({meaning}), '
                      f'or ignore_index {ignore_index}')


def _indices(position: int, shape: Sequence[int]) -> List[int]:
    """The indices of a flat position."""
    indices = []
    for size in reversed(shape):
        position, index = divmod(position, size)
        indices.append(index)
    return indices[::-1]


def check_weight(weight: Tensor) -> None:
    """Raise ValueError for a weight that is negative or not finite; synchronises a GPU."""
    if weight.numel() == 0 or weight.dtype == torch.bool:
        return
    low, high = weight.detach().aminmax()  # NaN if there is one
    if not (low >= 0 and high < math.inf):
        values = weight.detach().reshape(-1)
        position = int((~((values >= 0) & (values < math.inf))).nonzero()[0])
        where = _indices(position, weight.shape)
        raise ValueError(f'weight {values[position].item():g} at position {where}: expected '
                         'finite numbers >= 0')


def check_probabilities(pred: Tensor) -> None:
    """Raise ValueError for what can not be a probability; NaN passes. Synchronises a GPU."""
    bad = (pred < 0) | (pred > 1)
    if bad.any():
        value = pred[bad][0].item()
        raise ValueError(f'pred has the value {value:g}, but activated=True says that it holds '
                         'probabilities: expected 0 to 1, or logits with activated=False')


def as_tensor(name: str, value: Any, pred: Tensor) -> Tensor:
    """A tensor of real numbers on the device of ``pred``, of a numpy array or a list too."""
    is_array = isinstance(value, ARRAYS)
    if is_array and np.ma.is_masked(value):
        raise TypeError(f'{name} is a masked array, whose mask a tensor does not have: give '
                        f'{name}.filled(-1), where -1 is the ignore_index')
    if is_array or (isinstance(value, (list, tuple)) and _is_numbers(value)):
        try:
            value = torch.as_tensor(value, device=pred.device)
        except (TypeError, ValueError) as error:  # of objects, or rows of different lengths
            raise TypeError(f'{name} is {_describe(value)}, which make no tensor ({error}): '
                            'expected a tensor') from None
    require_tensor(name, value, pred)
    return value


def _is_numbers(values: Sequence[object]) -> bool:
    """Whether a list holds numbers, or lists of them."""
    return len(values) > 0 and all(
        _is_numbers(v) if isinstance(v, (list, tuple)) else isinstance(v, Real) for v in values)


def require_tensor(name: str, value: object, pred: Tensor, floating: bool = False) -> None:
    """Raise unless ``value`` is a plain tensor of real numbers on the device of ``pred``."""
    if not isinstance(value, Tensor):
        for method in ('toarray', 'to_numpy'):  # of scipy, pandas
            if hasattr(value, method):
                raise TypeError(f'{name} is a {type(value).__name__}: expected a tensor, or give '
                                f'{name}.{method}()')
        raise TypeError(f'{name} is {_describe(value)}: expected a tensor')
    if isinstance(value, MaskedTensor):
        raise TypeError(f'{name} is a masked tensor: expected a plain one; unknown targets have '
                        f'the ignore_index ({name}.get_data(), {name}.get_mask())')
    if value.layout != torch.strided or value.is_nested:
        way = 'to_padded_tensor(-1)' if value.is_nested else 'to_dense()'
        raise TypeError(f'{name} is {"nested" if value.is_nested else value.layout}: expected a '
                        f'dense tensor, {name}.{way}')
    if value.is_quantized:
        raise TypeError(f'{name} has dtype {value.dtype}: expected {name}.dequantize()')
    if floating and not value.is_floating_point():
        raise TypeError(f'{name} has dtype {value.dtype}: expected a floating point tensor')
    if value.is_complex():
        raise TypeError(f'{name} has dtype {value.dtype}: expected real numbers')
    if value.device != pred.device:
        raise ValueError(f'{name} is on {value.device}, but pred is on {pred.device}: move it '
                         f'there with .to({str(pred.device)!r})')


def _describe(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f'a {type(value).__name__} of {len(value)}'
    return repr(value)
