"""The paper's adaptive asymmetry: gamma_neg follows a target for delta_p."""

import math
from typing import Any, List, Optional

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from asl_det.losses.fused import Statistics


class AdaptiveGamma(nn.Module):
    r"""Adjusts ``gamma_neg`` after every training step.

    With the mean probabilities of positives and negatives of a step,

    .. math::
        \Delta p = \bar p_{pos} - (1 - \bar p_{neg}), \qquad
        \gamma_- \leftarrow \gamma_- + \lambda (\Delta p_{target} - \Delta p)

    A step is every call of the loss up to a backward pass, so the levels of a
    detector count together. Entries that are ignored or have weight 0 do not
    count, those of all processes do. A step without positives (or without
    negatives) changes nothing.

    ``gamma_neg`` and the sums of the step under way are buffers: they are
    saved and restored with the model, and a resumed training goes on with the
    same values. On a GPU the sums are copied to the host while the step goes
    on, so the loss does not wait for them.

    Args:
        start: gamma_neg of the first step.
        delta_p_target: where delta_p shall end, in (-1, 1). A higher target
            gives a higher gamma_neg.
        step_size: lambda, > 0.
        gamma_min, gamma_max: bounds of gamma_neg.

    Raises:
        ValueError: for an argument out of range.

    Reference:
        Ridnik et al., ICCV 2021, arXiv 2009.14119. The step size was not
        published.
    """

    def __init__(self, start: float, delta_p_target: float = 0.1, step_size: float = 0.1,
                 gamma_min: float = 0.0, gamma_max: float = 10.0) -> None:
        super().__init__()
        for name, value, good, expected in (
                ('delta_p_target', delta_p_target, -1 < delta_p_target < 1, 'between -1 and 1'),
                ('step_size', step_size, 0 < step_size < math.inf, 'a number > 0'),
                ('gamma_min', gamma_min, 0 <= gamma_min <= start, 'from 0 to gamma_neg'),
                ('gamma_max', gamma_max, start <= gamma_max < math.inf, 'gamma_neg or more')):
            if not good:
                raise ValueError(f'adaptive: {name}={value}: expected {expected} '
                                 f'(gamma_neg={start})')
        self.delta_p_target = delta_p_target
        self.step_size = step_size
        self.gamma_min = gamma_min
        self.gamma_max = gamma_max
        self.register_buffer('gamma_neg', torch.tensor(float(start), dtype=torch.float64))
        self.register_buffer('sums', torch.zeros(4, dtype=torch.float64))
        self._gamma = float(start)  # the same on the host: reading a GPU would wait for it
        self._copy: Optional[Tensor] = None
        self._copied: Any = None
        self._stepped = False  # a backward pass has ended the step of these sums
        self.register_load_state_dict_post_hook(AdaptiveGamma._restore)

    def start_call(self) -> float:
        """The gamma_neg of a call of the loss; the first of a step updates it."""
        if self._stepped:
            self._update()
            self._stepped = False
        return self._gamma

    def end_call(self, statistics: Statistics, loss: Tensor) -> None:
        """Count what a call saw; the backward pass of ``loss`` ends the step."""
        if not loss.requires_grad:
            return
        seen = torch.stack([t.to(torch.float64) for t in statistics[:4]])
        if get_world_size() > 1:  # now, so that what is saved holds for all processes
            all_reduce(seen)
        self.sums += seen.to(self.sums.device)
        if self.sums.is_cuda:
            self._copy = torch.empty(4, dtype=torch.float64, pin_memory=True)
            self._copy.copy_(self.sums, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()
        loss.register_hook(self._end_step)

    def _end_step(self, grad: Tensor) -> None:
        self._stepped = True

    def _update(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()  # of a forward pass that lies a step behind
        p_pos, p_neg, n_pos, n_neg = (self.sums if self._copy is None else self._copy).tolist()
        self._copy = self._copied = None
        self.sums.zero_()
        if n_pos and n_neg:
            delta_p = p_pos / n_pos - (1 - p_neg / n_neg)
            gamma = self._gamma + self.step_size * (self.delta_p_target - delta_p)
            self._gamma = min(max(gamma, self.gamma_min), self.gamma_max)
            self.gamma_neg.fill_(self._gamma)

    def _restore(self, incompatible_keys: List[str]) -> None:
        """After loading: sums in a checkpoint are those of a finished step."""
        self._gamma = float(self.gamma_neg)
        self._copy = self._copied = None
        self._stepped = True

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _copy=None, _copied=None)  # an event can not be copied

    def extra_repr(self) -> str:
        return (f'delta_p_target={self.delta_p_target}, step_size={self.step_size}, '
                f'gamma in [{self.gamma_min}, {self.gamma_max}]')
