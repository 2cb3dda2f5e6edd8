"""Ends a training that should not go on, with its state saved."""

import math
import os
from itertools import zip_longest
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from asl_det.errors import Stopped, UserError
from asl_det.registry import HOOKS, register
from asl_det.training.hooks.accumulation import optim_wrappers
from asl_det.training.hooks.raw_and_ema import RawAndEMAHook, SafeEMAHook
from asl_det.training.hooks.safe_checkpoint import SafeCheckpointHook
from asl_det.training.run_folder import FINISHED, remove
from asl_det.training.stopping import Signals


@register(HOOKS)
class GuardHook(Hook):
    """Stops at a signal, or where the loss is not finite; the engine adds it.

    After every step the processes agree on both, in one reduction of two
    integers at the same place of the loop for all, so that none waits for
    another that has left. One process alone needs none. mmengine's logger
    reads the losses on the host after every step already, so looking at one
    costs no synchronisation.

    A signal: the state is saved when the step (at the end of an epoch: the
    epoch) and all hooks are through, and :class:`~asl_det.errors.Stopped` is
    raised; in a validation, after it and one more step.

    Args:
        signals: which have come.
        non_finite_steps: so many steps in a row with a loss that is NaN or
            infinite end the training. Steps that mixed precision skips, to try
            again with half of its loss scale, do not count.
        overwritten: files of an older run, removed when the training begins.

    Raises:
        UserError: for a loss that stays not finite.
        Stopped: after a signal.
    """

    priority = 'LOWEST'

    def __init__(self, signals: Signals, non_finite_steps: int = 10,
                 overwritten: Sequence[str] = ()) -> None:
        if non_finite_steps < 1:
            raise UserError(f'non_finite_steps={non_finite_steps}: expected at least 1')
        self.signals = signals
        self.non_finite_steps = non_finite_steps
        self.overwritten = overwritten
        self._bad = 0  # steps in a row
        self._scales: List[float] = []
        self._whole: Optional[int] = None  # iterations of a state between two steps
        self.validating = False

    def before_train(self, runner: Runner) -> None:
        if is_main_process():
            remove([path for path in self.overwritten if os.path.dirname(path) != runner.log_dir])
        for hook in _savers(runner)[:1]:
            hook.catch_up(runner)
        loop = runner.train_loop
        if is_main_process() and not getattr(loop, 'stop_training', False) and (
                runner.iter < getattr(loop, 'max_iters', math.inf)):
            remove([os.path.join(runner.work_dir, FINISHED)])  # that was another training's end
        self._whole = runner.iter

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._whole = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[Dict[str, Any]] = None) -> None:
        self._whole = runner.iter + 1
        if math.isfinite(loss_of(outputs)):
            self._bad, self._scales = 0, []
        elif not self._skipped(runner):
            self._bad += 1
        number, bad = self._agree(self.signals.number, self._bad)
        if bad >= self.non_finite_steps:
            raise UserError(
                f'the loss is not finite ({loss_of(outputs)}) since {bad} steps in a row, at '
                f'iteration {runner.iter + 1}: nothing of them is saved, the last checkpoint is '
                f'{_last(runner)}. Lower the learning rate, clip gradients with '
                'optim_wrapper.clip_grad, or look for broken images and boxes, and go on with '
                '--resume')
        ends_epoch = (isinstance(runner.train_loop, EpochBasedTrainLoop)
                      and self.end_of_epoch(runner.train_dataloader, batch_idx))
        if number and not ends_epoch:
            self._stop(runner, number, runner.epoch, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            number, _ = self._agree(self.signals.number, 0)
            if number:
                self._stop(runner, number, runner.epoch + 1, runner.iter)

    def before_val(self, runner: Runner) -> None:
        self.validating = True

    def after_val(self, runner: Runner) -> None:
        self.validating = False

    def rescue(self, runner: Runner) -> Optional[str]:
        """Save what an error between two steps would lose, in the main process.

        Returns:
            The checkpoint, or None if the error came within a step, within a
            validation beside an EMAHook of the user's own, if saving fails
            too, or in another process.
        """
        averages = [h for h in runner.hooks if isinstance(h, EMAHook)]
        if not self._whole or not is_main_process():
            return None
        if self.validating and not all(isinstance(h, (RawAndEMAHook, SafeEMAHook))
                                       for h in averages):
            print_log('the state is not saved: whether a hook of your own has exchanged the '
                      'weights for their average is not known', logger='current')
            return None
        for hook in averages:
            if isinstance(hook, SafeEMAHook):
                hook.put_back()
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and not (
                loop.epoch * len(loop.dataloader) <= self._whole
                < (loop.epoch + 1) * len(loop.dataloader)):
            return None  # between the hooks of an epoch's end
        try:
            return self._save(runner, loop.epoch, self._whole, alone=True)
        except Exception as error:
            print_log(f'the state could not be saved: {error}', logger='current')
            return None

    def _skipped(self, runner: Runner) -> bool:
        """Whether mixed precision left the step out and has a smaller scale to try."""
        scalers = [getattr(w, 'loss_scaler', None) for w in optim_wrappers(runner.optim_wrapper)]
        before, self._scales = self._scales, [
            s.get_scale() for s in scalers if s is not None and s.is_enabled()]
        return any(1 < now < old for now, old in zip_longest(
            self._scales, before, fillvalue=math.inf))

    def _agree(self, number: int, bad: int) -> Tuple[int, int]:
        """The highest of all processes."""
        if get_world_size() == 1:
            return number, bad
        both = torch.tensor([number, bad])
        all_reduce(both, 'max')
        number, bad = both.tolist()
        return number, bad

    def _stop(self, runner: Runner, number: int, epoch: int, iteration: int) -> None:
        saved = self._save(runner, epoch, iteration)
        barrier()  # a launcher ends all when one has ended: the main process may still write
        raise Stopped(number, iteration, saved)

    def _save(self, runner: Runner, epoch: int, iteration: int, alone: bool = False
              ) -> Optional[str]:
        for hook in _savers(runner)[:1]:
            hook.alone = alone
            return hook.save_now(runner, epoch, iteration)
        return None


def loss_of(outputs: Optional[Dict[str, Any]]) -> float:
    """The training loss of a step; the sum of all where a model has several of its own."""
    outputs = outputs or {}
    names = ['loss'] if 'loss' in outputs else [name for name in outputs if 'loss' in name]
    return sum(v.item() if isinstance(v := outputs[name], Tensor) else v for name in names)


def _savers(runner: Runner) -> list:
    return [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]


def _last(runner: Runner) -> str:
    return next((h.last_ckpt for h in _savers(runner) if h.last_ckpt), None) or 'none'
