from functools import partial
from typing import Any, Callable, Dict

from mmengine.hooks import Hook
from mmengine.runner import Runner

from asl_det.errors import UserError


class DrawingHook(Hook):
    """A hook that draws: what can not be drawn is logged with the reason, and the run goes on."""

    priority = 'VERY_LOW'  # after mmengine's logger has written the scalars

    def attempt(self, runner: Runner, draw: Callable[..., None], *args: Any) -> None:
        """Call ``draw`` with ``args``."""
        try:
            draw(*args)
        except Exception as error:
            say(runner, self, error)


class DrawnSafely(Hook):
    """Stands in the place of a hook that draws, mmdet's ``DetVisualizationHook``, and calls it.

    What can not be drawn ends no run: the first failure is logged. Colours
    that are fewer than the classes give way to random ones.
    """

    def __init__(self, hook: Hook) -> None:
        self.hook, self.priority, self.said = hook, hook.priority, False
        for stage in hook.get_triggered_stages():
            setattr(self, stage, partial(self._call, getattr(hook, stage)))

    def get_triggered_stages(self) -> list:
        return self.hook.get_triggered_stages()

    def _call(self, method: Callable[..., None], runner: Runner, *args: Any, **kwargs: Any) -> None:
        try:
            fit_palette(runner.visualizer.dataset_meta or {})
            method(runner, *args, **kwargs)
        except Exception as error:
            if not self.said:
                say(runner, self.hook, error)
            self.said = True


def fit_palette(meta: Dict[str, Any]) -> None:
    """Random colours, in place, where the data set has fewer than classes: mmdet stops at that."""
    palette, classes = meta.get('palette'), meta.get('classes') or ()
    if isinstance(palette, list) and len(palette) < len(classes):
        meta['palette'] = 'random'


def say(runner: Runner, hook: Hook, error: Exception) -> None:
    """Log what kept a hook from drawing: a mistake in a file in a line, a defect with traceback."""
    runner.logger.warning(f'{type(hook).__name__} drew nothing: {type(error).__name__}: {error}',
                          exc_info=not isinstance(error, UserError))
