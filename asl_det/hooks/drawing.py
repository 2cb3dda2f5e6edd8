from typing import Any, Callable

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
            # A mistake in a file is told in a line, a defect with its traceback.
            runner.logger.warning(
                f'{type(self).__name__} drew nothing: {type(error).__name__}: {error}',
                exc_info=not isinstance(error, UserError))
