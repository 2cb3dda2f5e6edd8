"""Schedules that take their values from the optimizer and the training loop."""

import logging
from typing import Any, Dict, List, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.optim import BaseOptimWrapper, OneCycleLR
from torch.optim import Optimizer

from asl_det.errors import UserError
from asl_det.registry import PARAM_SCHEDULERS, register

INF = int(1e9)  # mmengine's "no end"


@register(PARAM_SCHEDULERS)
class OneCycle(OneCycleLR):
    """One cycle over the run: the maximum is the optimizer's ``lr``, the length that of the loop.

    Every parameter group has a cycle of its own, so ``lr_mult`` of
    ``paramwise_cfg`` and ``auto_scale_lr`` count. A resumed run goes on at its
    place in the cycle that the config describes now.

    Args:
        optimizer: what is scheduled.
        run_share: share of the cycle that the run goes through, in (0, 1]:
            41/80 stops after 41 of 80 epochs.
        momentum: momentum of SGD, or first beta of Adam, at the ends and at
            the peak of the cycle, e.g. (0.95, 0.85); None leaves it alone.
        begin, end: iterations, or epochs with ``by_epoch=True``; mmengine sets
            ``end`` to the length of the run.
        by_epoch: steps are epochs, not iterations.
        eta_max, total_steps: refused; mmengine's ``OneCycleLR`` has them.
        **kwargs: ``pct_start``, ``anneal_strategy``, ``div_factor``,
            ``final_div_factor``, ``three_phase`` as in mmengine.

    Raises:
        UserError: for an argument that would not count, a share out of range,
            or an optimizer without momentum.

    Reference:
        Smith and Topin, Super-Convergence, arXiv 1708.07120; the formula is
        that of ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    def __init__(self,
                 optimizer: Union[Optimizer, BaseOptimWrapper],
                 run_share: float = 1.0,
                 momentum: Optional[Tuple[float, float]] = None,
                 begin: int = 0,
                 end: int = INF,
                 by_epoch: bool = True,
                 eta_max: None = None,
                 total_steps: None = None,
                 **kwargs: Any) -> None:
        if eta_max is not None or total_steps is not None:
            raise UserError(
                f'OneCycle(eta_max={eta_max}, total_steps={total_steps}): leave both out; the '
                'maximum is optim_wrapper.optimizer.lr, the length that of train_cfg')
        if not 0 < run_share <= 1:
            raise UserError(f'OneCycle(run_share={run_share}): expected more than 0, at most 1')
        if end == INF:
            raise UserError('OneCycle has no end: build it with a training loop, or give end')
        self.momentum = momentum
        self.maxima = [group['lr'] for group in optimizer.param_groups]
        if momentum is not None and not {'momentum', 'betas'} & set(optimizer.param_groups[0]):
            raise UserError(f'OneCycle(momentum={momentum}): the optimizer has neither momentum '
                            'nor betas; leave it out')
        super().__init__(
            optimizer, eta_max=self.maxima, total_steps=round((end - begin) / run_share),
            begin=begin, end=end, by_epoch=by_epoch, **kwargs)

    def step(self) -> None:
        super().step()
        self._apply_momentum()

    def state_dict(self) -> Dict[str, Any]:
        """The place in the cycle; the cycle itself comes from the config."""
        return dict(_global_step=self._global_step, total_steps=self.total_steps,
                    maxima=self.maxima)

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Go on at the place of a saved run (mmengine's ``OneCycleLR`` too), in our own cycle."""
        ours = self.state_dict()
        for name, what in (('total_steps', 'steps'), ('maxima', 'learning rates')):
            saved = state_dict.get(name, ours[name])
            if saved != ours[name]:
                print_log(f'the one-cycle schedule was begun with other {what}: {_short(saved)}, '
                          f'and goes on with those of the config: {_short(ours[name])}',
                          logger='current', level=logging.WARNING)
        self._global_step = state_dict['_global_step']
        self.last_step = min(self._global_step, self.end - 1) - self.begin
        groups = self.optimizer.param_groups
        # The optimizer's state brought those of the saved run.
        for group, maximum in zip(groups, self.maxima, strict=True):
            group['max_lr'] = maximum
            group['initial_lr'] = maximum / self.div_factor
            group['min_lr'] = group['initial_lr'] / self.final_div_factor
        if self.last_step >= 0:
            for group, value in zip(groups, self._get_value(), strict=True):
                group['lr'] = value
            self._apply_momentum()
        self._last_value = [group['lr'] for group in groups]

    def _get_value(self) -> List[float]:
        phase, passed = self._place()
        return [self.anneal_func(group[phase['start_lr']], group[phase['end_lr']], passed)
                for group in self.optimizer.param_groups]

    def _apply_momentum(self) -> None:
        if self.momentum is None:
            return
        phase, passed = self._place()
        at_ends, at_peak = self.momentum
        value = self.anneal_func(*(at_peak if phase[f'{side}_lr'] == 'max_lr' else at_ends
                                   for side in ('start', 'end')), passed)
        for group in self.optimizer.param_groups:
            if 'betas' in group:
                group['betas'] = (value, *group['betas'][1:])
            else:
                group['momentum'] = value

    def _place(self) -> Tuple[Dict[str, Any], float]:
        """The phase of the cycle, and the share of it that has passed."""
        start = 0
        for phase in self._schedule_phases:
            end = phase['end_step']
            if self.last_step <= end or phase is self._schedule_phases[-1]:
                break
            start = end
        # mmengine and torch divide by 0 where a phase has no length, as in a run of 5 steps.
        return phase, (self.last_step - start) / (end - start) if end != start else 1.0


def _short(value: Union[int, List[float]]) -> str:
    """A list without its repetitions."""
    return ', '.join(map(str, dict.fromkeys(value))) if isinstance(value, list) else str(value)
