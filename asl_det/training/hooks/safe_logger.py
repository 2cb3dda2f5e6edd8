from contextlib import contextmanager
from typing import Any, Iterator

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from asl_det.registry import HOOKS, register


@register(HOOKS)
class SafeLoggerHook(LoggerHook):
    """mmengine's LoggerHook, where a line that can not be written ends no training.

    A disk that is full for a moment costs records of the log, which says so,
    not the run. The engine puts it in the place of ``LoggerHook``; arguments
    are the same.
    """

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        with surviving(runner, 'scalars'):
            super().after_train_iter(runner, *args, **kwargs)

    def after_val_epoch(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        with surviving(runner, 'metrics'):
            super().after_val_epoch(runner, *args, **kwargs)


@contextmanager
def surviving(runner: Runner, what: str) -> Iterator[None]:
    """Log what could not be written, and go on."""
    try:
        yield
    except OSError as error:
        runner.logger.warning(f'{what} of iteration {runner.iter + 1} were not recorded: {error}')
