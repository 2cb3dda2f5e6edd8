from pathlib import Path
from typing import Dict, Optional

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from asl_det.hooks.drawing import DrawingHook
from asl_det.registry import HOOKS, register


@register(HOOKS)
class CurvesHook(DrawingHook):
    """Keeps ``curves.png`` (losses, metric, learning rate) in the run's folder up to date."""

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._update(runner)

    def after_train(self, runner: Runner) -> None:
        self._update(runner)

    def _update(self, runner: Runner) -> None:
        if is_main_process():
            self.attempt(runner, draw_curves, runner.work_dir)


def draw_curves(work_dir: str) -> None:
    from asl_det.analysis.curves import plot_run  # matplotlib only when it is needed
    plot_run(work_dir, Path(work_dir) / 'curves.png')
