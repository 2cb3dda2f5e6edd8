"""What crosses the border between the loss and the code that computes it."""

import functools
import math
import struct
from typing import Any, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor


class Settings(NamedTuple):
    """The parameters of a loss and the factor of its result."""
    gamma_pos: float
    gamma_neg: Union[float, Tensor]  # a 0-dim tensor inside torch.compile alone
    clip: float
    alpha: Optional[float]
    constant_focus: bool  # focusing weights are constants in the backward pass
    ignore_index: int
    scale: float

    @property
    def scale_pos(self) -> float:
        return self.scale * (1.0 if self.alpha is None else self.alpha)

    @property
    def scale_neg(self) -> float:
        return self.scale * (1.0 if self.alpha is None else 1.0 - self.alpha)


class Batch(NamedTuple):
    """What stands beside the logits ``(N, C)``: targets and weights, on their device."""
    targets: Tensor  # labels (N,) with background C, or dense (N, C)
    row_weight: Optional[Tensor] = None  # (N,)
    col_weight: Optional[Tensor] = None  # (C,)
    entry_weight: Optional[Tensor] = None  # (N, C)
    factor: Optional[Tensor] = None  # 0-dim, on a GPU: a factor that the host does not know

    @property
    def as_index(self) -> bool:
        return self.targets.dim() == 1

    def rows(self, rows: slice) -> 'Batch':
        """The part of some rows."""
        return self._replace(
            targets=self.targets[rows],
            row_weight=None if self.row_weight is None else self.row_weight[rows],
            entry_weight=None if self.entry_weight is None else self.entry_weight[rows])


class Statistics(NamedTuple):
    """Sums over the known entries of weight > 0, as tensors on the device of the logits."""
    p_pos: Tensor  #: sum of the probabilities of positives (target > 0.5)
    p_neg: Tensor  #: the same over negatives
    n_pos: Tensor  #: number of positives
    n_neg: Tensor  #: number of negatives
    n_under: Tensor  #: number of negatives at or under the margin


class Result(NamedTuple):
    """What one pass gives."""
    loss: Optional[Tensor]  # sum, or mean of known entries, 0-dim, float32 or float64
    correction: Union[float, Tensor]  # entries / known ones, still due to a mean's gradient; or 1
    bad: int  # first position of a target out of range, or -1 (-1 where not looked at)
    values: Optional[Tensor]  # (N, C), float32 or float64
    grad: Optional[Tensor]  # (N, C), dtype of the logits
    statistics: Optional[Statistics]


def margin_logit(clip: float) -> Tuple[float, float]:
    """``logit(clip)`` as a sum of two numbers, the first of them exact in float32.

    Next to the margin ``sigmoid(x) - clip`` keeps its digits only if the
    distance ``(x - high) - low`` does. Without a margin: ``(-inf, 0)``.
    """
    if clip == 0:
        return -math.inf, 0.0
    exact = math.log(clip) - math.log1p(-clip)
    high = round(exact * 2**16) / 2**16
    return high, exact - high


@functools.lru_cache(maxsize=64)
def last_under(clip: float) -> float:
    """The largest float32 whose probability is at or under the margin."""
    threshold = sum(margin_logit(clip))
    pattern = struct.pack('f', threshold)
    nearest, = struct.unpack('f', pattern)
    if nearest > threshold:  # the pattern of the next one down, as a whole number
        whole, = struct.unpack('i', pattern)
        nearest, = struct.unpack('f', struct.pack('i', whole - 1 if nearest > 0 else whole + 1))
    return nearest


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that the loss of such logits is computed in: float32 or better."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype of sums over a batch: float64 where the device has it."""
    return torch.float32 if device.type == 'mps' else torch.float64


def is_compiling() -> bool:
    """Whether torch.compile traces this call."""
    compiler: Any = getattr(torch, 'compiler', None)  # is_compiling is there since torch 2.1
    return hasattr(compiler, 'is_compiling') and compiler.is_compiling()


def is_traced() -> bool:
    """Whether torch.compile, torch.func or torch.jit.trace looks on: no value can be read then."""
    active = getattr(torch._C, '_are_functorch_transforms_active', None)
    return is_compiling() or (active is not None and active()) or torch.jit.is_tracing()


def is_watched(logits: Tensor) -> bool:
    """Whether a mode looks on at the operations on the CPU: FakeTensorMode (no values), make_fx."""
    modes = getattr(torch._C, '_len_torch_dispatch_stack', None)
    return logits.device.type == 'cpu' and modes is not None and modes() > 0
