"""What a run shows on the screen: a digest, how far it is, metrics; all else is in its log file."""

import io
import logging
import math
import os
import re
import sys
import time
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TimeRemainingColumn
from rich.text import Text

from asl_det.files.nested import dicts, nodes
from asl_det.files.text import plain_console
from asl_det.registry import type_name
from asl_det.training.runner import build_runner

LINES = 20  # about how many a training prints where there is no terminal
CLASSES = 6  # names of them in the digest
# What pycocotools prints whenever it reads or counts.
NOISE = re.compile(r'(loading annotations into memory|done ?\(t=|creating index|index created'
                   r'|loading and preparing results|running per image evaluation'
                   r'|evaluate annotation type|accumulating evaluation results'
                   r'| average (precision|recall) )', re.IGNORECASE)


def build_quietly(build: Callable[[], Runner]) -> Runner:
    """Build a runner whose log goes to its file, and to the screen from warnings on.

    mmengine shows the whole environment and config while it builds, on a stream that its logger
    then keeps.

    Raises:
        Exception: what ``build`` raises, after what it had shown.
    """
    shown = io.StringIO()
    try:
        with redirect_stdout(shown):
            runner = build()
    except BaseException:
        warnings = [line for line in shown.getvalue().splitlines() if ' - WARNING - ' in line]
        print('\n'.join(warnings), end='\n' if warnings else '')
        raise
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is shown:
            handler.setStream(_Stdout())
            handler.setLevel(max(handler.level, logging.WARNING))
            # Of mmengine itself, which nobody can act on.
            handler.addFilter(lambda record: 'deprecated' not in record.getMessage())
    return runner


def build_shown(cfg: Config, stack: ExitStack, verbose: bool, said: Sequence[str]) -> Runner:
    """The runner of a config, and what it shows on the screen, which the end of the stack ends.

    Args:
        cfg: the config.
        stack: left at the end of the run.
        verbose: show the whole log, as mmengine does.
        said: lines about the run; warnings among them are shown by the log.
    """
    if verbose:
        return build_runner(cfg)
    runner = build_quietly(lambda: build_runner(cfg))
    screen = ScreenHook([line for line in said if not line.startswith('warning')])
    stack.enter_context(screen.watching())
    runner.register_hook(screen)
    return runner


def log_lines(runner: Runner, said: Sequence[str]) -> None:
    """Log lines; those that begin with ``warning:`` as such."""
    for line in said:
        runner.logger.log(logging.WARNING if line.startswith('warning') else logging.INFO,
                          line.removeprefix('warning: '))


class _Stdout:
    """``sys.stdout``, whatever it is at the time."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


class _Lines(io.TextIOBase):
    """What others print, above the progress bar, but for the noise."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rest = ''

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split('\n')
        for line in lines:
            if not NOISE.match(line):
                self.console.print(Text.from_ansi(line), soft_wrap=True)
        return len(text)


class ScreenHook(Hook):
    """The digest before the first step, then progress, then metrics of each validation.

    Args:
        said: lines about the run, which follow the digest.
    """

    priority = 'VERY_LOW'

    def __init__(self, said: Sequence[str] = ()) -> None:
        self.said = said
        self.console = plain_console(file=sys.stdout)
        self.progress: Optional[Progress] = None
        self.task: Optional[TaskID] = None
        self.began = 0.0
        self.first = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """As long as the run goes on; then the bar is taken away."""
        others = _Lines(self.console)
        try:
            with redirect_stdout(others):
                yield
        finally:
            if others.rest:
                others.write('\n')
            self.stop()

    def before_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        for name, text in digest(runner):
            self.console.print(f'{name:10}{text}', soft_wrap=True)
        if runner.iter:
            self.console.print(f'it goes on from step {runner.iter}')
        for line in self.said:
            self.console.print(line, soft_wrap=True)
        self.start('training', runner.max_iters, runner.iter)

    def before_test(self, runner: Runner) -> None:
        if is_main_process():
            self.start('testing', len(runner.test_dataloader), 0)

    def start(self, what: str, total: int, done: int) -> None:
        """Begin to show progress: a bar on a terminal, elsewhere a line now and then."""
        self.what, self.total, self.first, self.began = what, total, done, time.time()
        if self.console.is_terminal:
            columns = ('{task.description}', BarColumn(), '{task.completed}/{task.total}',
                       TimeRemainingColumn(), '{task.fields[more]}')
            self.progress = Progress(*columns, console=self.console, transient=True,
                                     redirect_stdout=False, redirect_stderr=False)
            self.task = self.progress.add_task(what, total=total, completed=done, more='')
            self.progress.start()

    def stop(self, *_: Any) -> None:
        """Take the bar away; without one it does nothing."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def step(self, done: int, more: str) -> None:
        """Show that so many steps are done."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, more=more)
        elif is_main_process() and (done % math.ceil(self.total / LINES) == 0
                                    or done in (self.first + 1, self.total)):
            left = (time.time() - self.began) / (done - self.first) * (self.total - done)
            self.console.print(f'{self.what} {done}/{self.total}  {more}  {_clock(left)} left'
                               .replace('    ', '  '), soft_wrap=True)

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        losses = runner.message_hub.log_scalars.get('train/loss')
        self.step(runner.iter + 1, '' if losses is None else f'loss {losses.current():.4g}')

    def after_test_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        self.step(batch_idx + 1, '')

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        if is_main_process() and metrics:
            found = ', '.join(f'{name} {value:.4g}' for name, value in metrics.items()
                              if isinstance(value, (int, float)) and value >= 0)
            self.console.print(f'after step {runner.iter}: {found}', soft_wrap=True)

    def after_train(self, runner: Runner) -> None:
        self.stop()
        said = runner.message_hub.runtime_info.get('calibration')
        if said and is_main_process():
            self.console.print(said, soft_wrap=True)

    after_test = stop


def digest(runner: Runner) -> Iterator[Tuple[str, str]]:
    """What a training is made of, a name and a line each."""
    cfg, loader = runner.cfg, runner.train_dataloader
    sets = [f'{len(loader.dataset)} pictures to train on']
    if runner.val_loop is not None:
        sets.append(f'{len(runner.val_dataloader.dataset)} to validate on')
    classes = list(getattr(loader.dataset, 'metainfo', {}).get('classes') or ())
    names = ', '.join(map(str, classes[:CLASSES])) + (', ...' if len(classes) > CLASSES else '')
    yield 'data', ', '.join(sets) + (f'; {len(classes)} classes: {names}' if classes else '')
    weights = sum(p.numel() for p in runner.model.parameters())
    backbone = next((f', {type_name(node)}' for key, node in nodes(cfg.model)
                     if key.split('.')[-1] == 'backbone' and isinstance(node, dict)), '')
    yield 'model', f'{type_name(cfg.model)}{backbone}, {weights / 1e6:.1f} million weights'
    for i, text in enumerate(_losses(cfg.model)):
        yield '' if i else 'loss', text
    yield 'schedule', _schedule(runner)
    device = next(runner.model.parameters()).device
    gpu = f' {torch.cuda.get_device_name(device)}' if device.type == 'cuda' else ''
    yield 'device', f'{device}{gpu}' + (f', {runner.world_size} processes'
                                        if runner.world_size > 1 else '')
    yield 'folder', f'{runner.work_dir} (log: {runner.timestamp}{os.sep}{runner.timestamp}.log)'


def _losses(model: Dict[str, Any]) -> List[str]:
    """The classification losses of a model's config, equal ones in one line."""
    found: Dict[str, List[str]] = {}
    for place, node in dicts(model):
        key = place.split('.')[-1]
        if 'type' in node and (key == 'loss' or (key.startswith('loss') and 'cls' in key)):
            rest = ', '.join(f'{k}={v}' for k, v in node.items()
                             if k not in ('type', 'use_sigmoid', 'loss_weight'))
            found.setdefault(f'{type_name(node)}({rest})', []).append(place)
    return [f'{", ".join(places)}: {text}' for text, places in found.items()]


def _schedule(runner: Runner) -> str:
    loop, batch = runner.train_loop, runner.train_dataloader.batch_size
    optimizer = next((node['optimizer'] for _, node in dicts(runner.cfg.optim_wrapper)
                      if isinstance(node.get('optimizer'), dict)), {})
    epochs = f' in {loop.max_epochs} epochs' if 'Epoch' in type(loop).__name__ else ''
    batch = f' of {batch} pictures' if batch else ''
    return (f'{loop.max_iters} steps{epochs}{batch}, {type_name(optimizer)}, learning rate '
            f'{optimizer.get("lr", "as the optimizer has")}')


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'
