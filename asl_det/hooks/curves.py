from pathlib import Path
from typing import Dict, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from asl_det.registry import HOOKS


@HOOKS.register_module()
class CurvesHook(Hook):
    """Keeps ``curves.png`` (losses, metric, learning rate) in the run's folder up to date."""

    priority = 'VERY_LOW'  # after mmengine's logger has written the scalars

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._draw(runner)

    def after_train(self, runner: Runner) -> None:
        self._draw(runner)

    @staticmethod
    def _draw(runner: Runner) -> None:
        if is_main_process():
            from asl_det.analysis.curves import plot_run  # matplotlib only when it is needed
            plot_run(runner.work_dir, Path(runner.work_dir) / 'curves.png')
