"""Checkpoints of which one is whole at every moment, and from which a training goes on exactly."""

import glob
import os
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn

from asl_det.compat.weights import unwrap
from asl_det.errors import UserError
from asl_det.files.whole import PARTIAL, PatientBackend, WholeFileBackend, write_whole
from asl_det.registry import HOOKS, register
from asl_det.training.hooks.accumulation import (
    accumulated,
    counts,
    may_hold_gradients,
    set_accumulated,
    set_counts,
)
from asl_det.training.loops import ResumableEpochLoop, ResumedData
from asl_det.training.random_state import random_state, set_random_state
from asl_det.training.run_folder import (
    ASIDE,
    FINISHED,
    LAST,
    FileNames,
    newer_files,
    put_aside,
    remove,
    same_path,
)

OUTDATED = 'outdated_ckpts'


@register(HOOKS)
class SafeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, whose newest checkpoint survives whatever happens while it writes.

    The engine puts it in the place of ``CheckpointHook``; arguments are the
    same. What differs:

    - A file is written beside its place, flushed to the disk and renamed, then
      ``last_checkpoint`` is, and only then older files are removed. mmengine
      removes first. Storage that is not local stays as mmengine has it.
    - Weights that are not finite are not saved: the run ends.
    - ``meta`` says the place in the epoch, and ``random`` holds the state of the
      random generators of every process: a resumed training draws the numbers
      that the interrupted one would have drawn (in a new epoch
      :class:`~asl_det.training.hooks.EpochSeedHook`, where there is one, seeds them).
    - A validation that was due but had not been finished is made up for.
    - ``accumulated`` holds the gradients of every process that no step of an
      optimizer has used, where they are accumulated or there are several.
    - What early stopping has counted goes on, and a run that it ended has ended.
    - Where an earlier checkpoint, or one of another folder, is resumed, newer
      ones of this folder are put aside and ``last_checkpoint`` names the start.
      The best checkpoint of another folder stays.

    Attributes:
        train_on: whether a run that was stopped before its length trains on.

    Raises:
        UserError: if a file can not be written, or weights are not finite.
    """

    train_on = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.filename_tmpl = FileNames(self.filename_tmpl)
        self.saved_at: Optional[int] = None  # iterations that the last saved state has behind it
        self.alone = False  # whether this process saves without the others
        self._loaded: Dict[str, Any] = {}
        self._infinite: set = set()
        self._states: List[Dict[str, Any]] = []
        self._accumulated: List[Dict[str, Any]] = []
        self._random: Dict[str, Any] = {}
        self._later: Optional[List[Tuple[Union[int, str], Dict[str, Any]]]] = None
        self._replaced: List[str] = []  # best ones before
        self._validated_at: Optional[int] = None
        self._before_val: Optional[Dict[str, Any]] = None

    def before_train(self, runner: Runner) -> None:
        local = '://' not in str(self.out_dir or runner.work_dir)
        if local and self.file_client_args is None and self.backend_args is None:
            self.backend_args = dict(backend='asl_det.whole')
        super().before_train(runner)
        self.local = isinstance(self.file_backend, WholeFileBackend)
        if self.local:
            self.file_backend = PatientBackend()
            self._best_is_here()
            if is_main_process():
                self._tidy(runner)
                self._branch(runner)
        self._infinite = set(not_finite(unwrap(runner.model)))  # meant so, e.g. a mask
        self._resume(runner)

    def _tidy(self, runner: Runner) -> None:
        """Remove what a process that was killed while it wrote has left."""
        names = {os.path.join(glob.escape(self.out_dir), f'*.pth{PARTIAL}'),
                 os.path.join(glob.escape(runner.work_dir), f'*{PARTIAL}')}
        remove([path for name in names for path in glob.glob(name)])
        known = runner.message_hub.runtime_info
        if self._is_here(known.get('last_ckpt')):
            self._remove(known.get(OUTDATED, []))

    def _best_is_here(self) -> None:
        """A folder may be a copy, or the run have begun in another: what lies there stays."""
        def own(path: Optional[str]) -> Optional[str]:
            here = path and self.file_backend.join_path(self.out_dir, os.path.basename(path))
            return here if here and self.file_backend.exists(here) else None

        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = own(self.best_ckpt_path)
        best = getattr(self, 'best_ckpt_path_dict', {})
        best.update({name: own(path) for name, path in best.items()})

    def _branch(self, runner: Runner) -> None:
        """Leave a branch of the run for another one, whose start ``last_checkpoint`` names."""
        start, last = runner._load_from, Path(runner.work_dir, LAST)
        if not runner._resume or not start or '://' in start:  # mmengine looks for it by itself
            return
        here = any(same_path(os.path.dirname(start), f) for f in (self.out_dir, runner.work_dir))
        named = last.read_text('utf-8', 'replace').strip() if last.is_file() else ''
        if same_path(named, start) or here and (
                os.path.basename(named) == os.path.basename(start)):
            return

        epoch, iteration = (runner.epoch, runner.iter) if here else (-1, -1)
        newer = newer_files(self.out_dir, self.filename_tmpl, epoch if self.by_epoch else None,
                            iteration)
        if newer:
            folder = os.path.join(self.out_dir, f'{ASIDE}{runner.timestamp}')
            put_aside(newer, folder)
            names = ', '.join(map(os.path.basename, newer))
            runner.logger.warning(f'the training goes on from {start}: {names} of another branch '
                                  f'of the run were put aside, in {folder}')
        write_whole(last, os.path.abspath(start))

    def _is_here(self, path: Optional[str]) -> bool:
        """Whether a checkpoint lies in this run's own folder."""
        return bool(path) and os.path.abspath(os.path.dirname(path)) == os.path.abspath(
            self.out_dir)

    # Going on.

    def after_load_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        self._loaded = dict(meta=checkpoint.get('meta', {}), random=checkpoint.pop('random', []),
                            accumulated=checkpoint.pop('accumulated', []))

    def _resume(self, runner: Runner) -> None:
        meta = self._loaded.get('meta', {})
        if not meta.get('iter') or (meta['epoch'], meta['iter']) != (runner.epoch, runner.iter):
            return  # a start from weights
        self.saved_at = runner.iter
        last = runner.message_hub.runtime_info.get('last_ckpt')
        if self._is_here(last) and self.file_backend.exists(last):
            self.last_ckpt = last
        loop, states = runner.train_loop, self._loaded['random']
        self._set_place(runner, meta)
        self._set_early_stopping(runner, meta)
        set_counts(runner.optim_wrapper, meta.get('gradients', []))
        if self._loaded['accumulated']:
            set_accumulated(unwrap(runner.model), self._loaded.pop('accumulated'))
            runner.logger.info('gradients that no step had used go on too: nothing of them is lost')
        if get_rank() < len(states):
            self._random = states[get_rank()]
            self._set_random()
            # Batches that were trained are loaded first, and may draw numbers.
            if isinstance(loop, IterBasedTrainLoop):
                loop.dataloader_iterator = ResumedData(loop, self._set_random)
            elif isinstance(loop, ResumableEpochLoop):
                loop.after_skip = self._set_random

    def _set_random(self) -> None:
        set_random_state(self._random)

    def _set_place(self, runner: Runner, meta: Dict[str, Any]) -> None:
        """Say to the loop which batches of the epoch are not trained again."""
        loop, batches = runner.train_loop, _batches(runner)
        skip, of = meta.get('batches', (0, batches))
        if not skip or not isinstance(loop, EpochBasedTrainLoop):
            return
        where = f'the checkpoint was saved after {skip} of {of} batches of epoch {loop.epoch + 1}'
        if of == batches and isinstance(loop, ResumableEpochLoop):
            runner.logger.info(f'{where}: they are loaded and left out')
            loop.skip = skip
        else:
            runner.logger.warning(f'{where}, which has {batches} now, in {type(loop).__name__}: '
                                  'the epoch starts anew')

    def _set_early_stopping(self, runner: Runner, meta: Dict[str, Any]) -> None:
        for hook, saved in zip(_early_stopping(runner), meta.get('early_stopping', []),
                               strict=False):
            if (hook.monitor, hook.rule) == (saved['monitor'], saved['rule']):
                hook.wait_count, hook.best_score = saved['wait_count'], saved['best_score']
        if meta.get('stopped') and not self.train_on:
            runner.train_loop.stop_training = True
            runner.logger.warning(
                'early stopping has ended this run, so nothing is left to train; --resume-anyway '
                'trains on, until the hook (its patience, if you change that) ends it again')

    def after_train(self, runner: Runner) -> None:
        stopped = getattr(runner.train_loop, 'stop_training', False)
        if stopped and self.save_last and not (
                self.saved_at == runner.iter and self._loaded.get('meta', {}).get('stopped')):
            self.saved_at = None  # that it has ended is part of the state
            self.save_now(runner, runner.epoch, runner.iter)
        super().after_train(runner)

    def catch_up(self, runner: Runner) -> None:
        """Run the validation that an interrupted training owed at its checkpoint."""
        loop, meta = runner.train_loop, self._loaded.get('meta', {})
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if (self.saved_at is None or meta.get('validated', True)  # mmengine's own do not say
                or not (by_epoch or isinstance(loop, IterBasedTrainLoop))
                or by_epoch and meta['batches'][0]):
            return
        loop._decide_current_val_interval()  # as the loops do before they ask what follows here
        now, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        finished = Path(runner.work_dir, FINISHED)
        if now >= end and finished.is_file() and self.last_ckpt and (
                finished.read_text('utf-8') == os.path.basename(self.last_ckpt)):
            return
        if runner.val_loop is not None and now >= loop.val_begin and (
                now % loop.val_interval == 0 or now == end):
            runner.logger.info('the validation that was due at this checkpoint is made up for')
            runner.val_loop.run()
            self._random = random_state()

    # Saving.

    def save_now(self, runner: Runner, epoch: int, iteration: int) -> str:
        """Save outside the intervals, at a state that has these epochs and iterations behind it.

        Returns:
            The file, ``epoch_2_iter_1240.pth`` in the middle of an epoch.
        """
        self._later = None
        if self.saved_at != iteration:
            step: Union[int, str] = iteration
            if self.by_epoch:
                inside = iteration != epoch * _batches(runner)
                step = f'{epoch}_iter_{iteration}' if inside else epoch
            self._save_checkpoint_with_step(runner, step, dict(epoch=epoch, iter=iteration))
        return self.last_ckpt

    def _save_checkpoint_with_step(self, runner: Runner, step: Union[int, str],
                                   meta: Dict[str, Any]) -> None:
        if self._later is not None:
            self._later.append((step, meta))
            return
        self._check_finite(runner)
        batches = _batches(runner)
        done = meta['iter'] - meta['epoch'] * batches
        meta.update(batches=(done if 0 < done <= batches else 0, batches),
                    validated=self._validated_at == meta['iter'],
                    gradients=counts(runner.optim_wrapper),
                    stopped=bool(getattr(runner.train_loop, 'stop_training', False)),
                    early_stopping=[dict(monitor=h.monitor, rule=h.rule, wait_count=h.wait_count,
                                         best_score=float(h.best_score))
                                    for h in _early_stopping(runner)])
        own = self._before_val if self.alone and self._before_val else random_state()
        self._states = [own] if self.alone else all_gather_object(own)
        if may_hold_gradients(runner.optim_wrapper):
            held = accumulated(unwrap(runner.model), self.alone)
            self._accumulated = held if any(one['gradients'] for one in held) else []
        hub, before = runner.message_hub, (self.last_ckpt, getattr(self, 'keep_ckpt_ids', None))
        outdated = self._outdate(step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        hub.update_info('last_ckpt', self.last_ckpt)
        if self.max_keep_ckpts > 0:
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        hub.update_info(OUTDATED, [*outdated, *map(os.path.basename, self._replaced)])
        try:
            with self._told(self.last_ckpt, before[0]):
                runner.save_checkpoint(
                    self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
                    save_param_scheduler=self.save_param_scheduler, meta=meta,
                    by_epoch=self.by_epoch, backend_args=self.backend_args, **self.args)
                if is_main_process():
                    write_whole(os.path.join(runner.work_dir, LAST), self.last_ckpt)
        except UserError:
            self.last_ckpt, self.keep_ckpt_ids = before
            raise
        finally:
            self._states, self._accumulated = [], []
        self.saved_at = meta['iter']
        if is_main_process():
            self._remove(outdated)

    def _outdate(self, step: Union[int, str]) -> List[str]:
        """Count a new checkpoint; the names of those that are then too many."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        steps = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        return [self.filename_tmpl.format(old) for old in steps[:-self.max_keep_ckpts]]

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            path = self.file_backend.join_path(self.out_dir, name)
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # as deepspeed saves
                self.file_backend.rmtree(path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Dict[str, Any]) -> None:
        if self._states:
            checkpoint['random'] = self._states
        if self._accumulated:
            checkpoint['accumulated'] = self._accumulated

    def before_val(self, runner: Runner) -> None:
        self._before_val = random_state()  # a validation that fails is run again

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._validated_at = runner.iter
        self._later = []  # until all hooks, early stopping too, have seen the metrics
        try:
            super().after_val_epoch(runner, metrics)
        except BaseException:
            self._later = None
            raise

    def after_val(self, runner: Runner) -> None:
        self._before_val = None
        later, self._later = self._later or [], None
        for step, meta in later:
            self._save_checkpoint_with_step(runner, step, meta)
        replaced, self._replaced = self._replaced, []
        for path in replaced:
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: Dict[str, float]) -> None:
        if not self.save_best:
            return
        self._check_finite(runner)
        with self._told(f'the best of {", ".join(self.save_best)}', self.last_ckpt):
            if not self.local:
                super()._save_best_checkpoint(runner, metrics)
                return
            with self.file_backend.removing_later() as waiting:
                super()._save_best_checkpoint(runner, metrics)
            best = {getattr(self, 'best_ckpt_path', None),
                    *getattr(self, 'best_ckpt_path_dict', {}).values()}
            self._replaced = list(set(waiting) - best)  # the same epoch may be the best again

    @contextmanager
    def _told(self, what: str, last: Optional[str]) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f'checkpoint {what} could not be written to {self.out_dir}: '
                f'{error.strerror or error}. The last one that is whole is {last or "none"}: make '
                'room or give the rights, and go on with --resume') from error

    def _check_finite(self, runner: Runner) -> None:
        broken = [name for name in not_finite(unwrap(runner.model)) if name not in self._infinite]
        if broken:
            raise UserError(
                f'the weights are not finite after iteration {runner.iter} ({len(broken)} tensors, '
                f'the first is {broken[0]}): they are not saved, the last checkpoint is '
                f'{self.last_ckpt or "none"}. Lower the learning rate, clip gradients with '
                'optim_wrapper.clip_grad, or look for broken images and boxes, and go on with '
                '--resume')


def not_finite(model: nn.Module) -> List[str]:
    """Names of parameters and buffers with a NaN or an infinity; one look at the device for all."""
    named = {name: t for name, t in model.state_dict().items()
             if isinstance(t, torch.Tensor) and t.is_floating_point() and t.numel()}
    if not named:
        return []
    good = torch.stack([t.isfinite().all() for t in named.values()])
    if good.all():
        return []
    return [name for name, fine in zip(named, good.tolist(), strict=True) if not fine]


def _batches(runner: Runner) -> int:
    """Batches of an epoch; 0 where the loop has none, and the data perhaps no length."""
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    return len(runner.train_dataloader) if by_epoch else 0


def _early_stopping(runner: Runner) -> List[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
