"""The paper's adaptive asymmetry: gamma_neg follows a target for delta_p."""

import functools
import logging
import weakref
from typing import Any, Callable, List, Optional, Union

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from asl_det.losses.arguments import require, require_number
from asl_det.losses.types import Statistics, is_compiling, sum_dtype

LOGGER = logging.getLogger(__name__)


class AdaptiveGamma(nn.Module):
    r"""Adjusts ``gamma_neg`` after every step of an optimizer.

    With the mean probabilities of positives and negatives of a step,

    .. math::
        \Delta p = \bar p_{pos} - (1 - \bar p_{neg}), \qquad
        \gamma_- \leftarrow \gamma_- + \lambda (\Delta p_{target} - \Delta p)

    What counts is every call of the loss that was differentiated since the
    last step: the levels of a detector and the batches of an accumulated
    gradient together, a pass that activation checkpointing repeats once.
    Entries that are ignored or have weight 0 do not count, nor does a call
    that saw a NaN. Those of all processes do, which may call the loss a
    different number of times. A step without positives (or without negatives)
    changes nothing.

    The step is that of the optimizers which it follows (:meth:`follow`;
    :class:`~asl_det.training.hooks.AdaptiveGammaHook` sees to that in a training of
    mmengine). A loss that follows none moves with any
    ``torch.optim.Optimizer`` of its own process, and by what that saw alone: a
    loss that one process builds for itself waits for no other. Where an
    optimizer of another kind steps, call :meth:`step` after it.

    ``gamma_neg`` is a float32 buffer: saved and restored with the model,
    whatever dtype the model has. On a GPU it is computed there and copied to
    the host while the step goes on, so the loss does not wait for it. A
    checkpoint without it (of a training with another loss) leaves it at its
    start.

    Args:
        start: gamma_neg of the first step.
        delta_p_target: where delta_p shall end, in (-1, 1). A higher target
            gives a higher gamma_neg.
        step_size: lambda, > 0.
        gamma_min, gamma_max: bounds of gamma_neg.

    Raises:
        TypeError: for an argument that is no number.
        ValueError: for an argument out of range.

    Reference:
        Ridnik et al., ICCV 2021, arXiv 2009.14119. The step size was not
        published.
    """

    gamma_neg: Tensor

    def __init__(self, start: float, delta_p_target: float = 0.1, step_size: float = 0.1,
                 gamma_min: float = 0.0, gamma_max: float = 10.0) -> None:
        super().__init__()
        for name, value, good, expected in (
                ('delta_p_target', delta_p_target, lambda v: -1 < v < 1, 'between -1 and 1'),
                ('step_size', step_size, lambda v: v > 0, 'a number > 0'),
                ('gamma_min', gamma_min, lambda v: 0 <= v <= start, 'from 0 to gamma_neg'),
                ('gamma_max', gamma_max, lambda v: v >= start, 'gamma_neg or more')):
            name = f'adaptive: {name}'
            expected = f'{expected} (gamma_neg={start})'
            require_number(name, value, expected)
            require(name, value, good(value), expected)
        self.delta_p_target = delta_p_target
        self.step_size = step_size
        self.gamma_min = gamma_min
        self.gamma_max = gamma_max
        self.register_buffer('gamma_neg', torch.tensor(float(start), dtype=torch.float32))
        # p_pos, p_neg, n_pos, n_neg since the last step. No buffer: DDP would overwrite it.
        self._sums = torch.zeros(4, dtype=sum_dtype(self.gamma_neg.device))
        self._on_host = float(start)  # of a GPU: reading it would wait
        self._copy: Optional[Tensor] = None  # on its way to the host
        self._copied: Any = None
        self._observed = False  # since it was made
        self._followed: weakref.WeakSet = weakref.WeakSet()
        _step_with_optimizers(self)

    def follow(self, optimizer: Optimizer) -> None:
        """Step with this optimizer, together with all processes; others move it no more.

        Args:
            optimizer: that of the training. Every process has one, and calls
                this with it.
        """
        if optimizer in self._followed:
            return
        self._followed.add(optimizer)
        reference = weakref.ref(self)

        def after_step(*_: Any) -> None:
            alive = reference()
            if alive is not None:
                alive.step()

        optimizer.register_step_post_hook(after_step)

    @property
    def counted(self) -> Tensor:
        """Sums since the last step, ``(4,)``: part of the state where gradients accumulate."""
        return self._sums

    @counted.setter
    def counted(self, sums: Tensor) -> None:
        self._sums.copy_(sums)

    def value(self) -> Union[float, Tensor]:
        """gamma_neg, on the host; inside torch.compile the tensor, whose changes need no graph."""
        if is_compiling():
            return self.gamma_neg
        if not self.gamma_neg.is_cuda:
            return float(self.gamma_neg)
        if self._copied is not None and self._copy is not None:
            self._copied.synchronize()  # of a step that lies a forward pass behind
            self._on_host, self._copy, self._copied = float(self._copy), None, None
        return self._on_host

    def observe(self, statistics: Statistics, loss: Tensor) -> None:
        """Count what a call saw, once its ``loss`` is differentiated."""
        if not loss.requires_grad:
            return
        self._observed = True
        seen = torch.stack([t.detach().to(self._sums.dtype) for t in statistics[:4]])
        if is_compiling():  # nothing is repeated inside a graph
            self._count(seen)
            return
        waiting = [seen]

        def differentiated(grad: Tensor) -> None:
            if waiting:  # a retained graph may be run through twice
                self._count(waiting.pop())

        loss.register_hook(differentiated)

    def _count(self, seen: Tensor) -> None:
        seen = seen.to(self._sums.device)
        self._sums.add_(torch.where(seen.isfinite().all(), seen, 0))

    @torch.no_grad()
    def step(self) -> None:
        """Move gamma_neg by what was observed since the last step, in all processes."""
        if _several_processes():
            dist.all_reduce(self._sums)  # in every step: another process may have seen something
        self._move()

    @torch.no_grad()
    def step_alone(self) -> None:
        """The same, in this process; nothing where an optimizer is followed."""
        if self._followed or not self._observed:
            return
        if _several_processes():
            _warn_alone()
        self._move()

    def _move(self) -> None:
        sums = self._sums.clone()
        self._sums.zero_()
        p_pos, p_neg, n_pos, n_neg = sums
        delta_p = p_pos / n_pos - (1 - p_neg / n_neg)
        gamma = self.gamma_neg + self.step_size * (self.delta_p_target - delta_p)
        gamma = gamma.clamp(self.gamma_min, self.gamma_max)
        self.gamma_neg.copy_(torch.where(gamma.isnan(), self.gamma_neg, gamma))  # 0 / 0
        self._read()

    def _read(self) -> None:
        """Send the value of a GPU to the host, without waiting for it."""
        self._copy = self._copied = None
        if self.gamma_neg.is_cuda:
            self._copy = torch.empty((), dtype=torch.float32, device='cpu', pin_memory=True)
            self._copy.copy_(self.gamma_neg, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> 'AdaptiveGamma':
        kept = self.gamma_neg
        super()._apply(fn, *args, **kwargs)
        device = self.gamma_neg.device
        if self.gamma_neg.dtype != kept.dtype:  # model.half() takes no digits from gamma
            self.gamma_neg = kept.to(device)
        self._sums = self._sums.to(device, sum_dtype(device))
        self._read()
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict,
                              strict: bool, missing_keys: List[str], unexpected_keys: List[str],
                              error_msgs: List[str]) -> None:
        state_dict.pop(prefix + 'sums', None)  # of version 0.1.0
        missing: List[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing,
                                      unexpected_keys, error_msgs)
        if missing:
            LOGGER.warning('the checkpoint has no %s: gamma_neg stays at %g', missing[0],
                           self.value())
        self._sums.zero_()
        self._read()

    def __getstate__(self) -> dict:
        self.value()  # an event can not be copied
        return {k: v for k, v in self.__dict__.items() if k != '_followed'}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._followed = weakref.WeakSet()  # a copy, such as an average, is of no training
        _step_with_optimizers(self)

    def extra_repr(self) -> str:
        return (f'delta_p_target={self.delta_p_target}, step_size={self.step_size}, '
                f'gamma in [{self.gamma_min}, {self.gamma_max}]')


def _step_with_optimizers(gamma: AdaptiveGamma) -> None:
    """Call ``gamma.step_alone()`` after every optimizer's step, as long as ``gamma`` is there."""
    reference = weakref.ref(gamma)

    def after_step(*_: Any) -> None:
        alive = reference()
        if alive is not None:
            alive.step_alone()

    handle = register_optimizer_step_post_hook(after_step)
    weakref.finalize(gamma, handle.remove).atexit = False


def _several_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@functools.cache
def _warn_alone() -> None:
    LOGGER.warning('an adaptive loss follows no optimizer, so each process moves a gamma_neg of '
                   "its own: default_hooks.adaptive_gamma=dict(type='AdaptiveGammaHook'), or "
                   'loss.adaptive.follow(optimizer), keeps them the same')
