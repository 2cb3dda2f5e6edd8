from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from asl_det.analysis.palette import palette_of
from asl_det.errors import UserError
from asl_det.multilabel.loading import loader_in
from asl_det.registry import HOOKS, register


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
    that are more or fewer than the classes give way to others.
    """

    def __init__(self, hook: Hook) -> None:
        self.hook, self.priority, self.said = hook, hook.priority, False
        for stage in hook.get_triggered_stages():
            setattr(self, stage, partial(self._call, getattr(hook, stage)))

    def get_triggered_stages(self) -> list:
        return self.hook.get_triggered_stages()

    def _call(self, method: Callable[..., None], runner: Runner, *args: Any, **kwargs: Any) -> None:
        try:
            if runner.visualizer.dataset_meta:
                # mmdet's visualizer stops where a palette has fewer colours than classes.
                runner.visualizer.dataset_meta['palette'] = palette_of(
                    runner.visualizer.dataset_meta)
            method(runner, *args, **kwargs)
        except Exception as error:
            if not self.said:
                say(runner, self.hook, error)
            self.said = True


def say(runner: Runner, hook: Hook, error: Exception) -> None:
    """Log what kept a hook from drawing: a mistake in a file in a line, a defect with traceback."""
    runner.logger.warning(f'{type(hook).__name__} drew nothing: {type(error).__name__}: {error}',
                          exc_info=not isinstance(error, UserError))


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
    from asl_det.analysis.training_curves import plot_run  # matplotlib only when it is needed
    plot_run(work_dir, Path(work_dir) / 'curves.png')


@register(HOOKS)
class MultiLabelPicturesHook(DrawingHook):
    """Contact sheets of images with truth and predictions.

    A training keeps ``predictions.png`` up to date in its folder: the first
    images of the validation set. A test with ``draw`` leaves sheets of all
    its images.

    Args:
        draw: draw every image of a test.
        test_out_dir: folder for them.
        per_sheet: images on a sheet.
    """

    def __init__(self, draw: bool = False, test_out_dir: Optional[str] = None,
                 per_sheet: int = 24) -> None:
        self.draw = draw
        self.test_out_dir = test_out_dir
        self.per_sheet = per_sheet
        self._samples: List[Any] = []
        self._sheets = 0

    def before_val_epoch(self, runner: Runner) -> None:
        self._samples = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Optional[Sequence[Any]] = None) -> None:
        if is_main_process() and len(self._samples) < self.per_sheet:
            self._samples.extend(outputs)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        if is_main_process() and self._samples:
            self.attempt(runner, draw_sheet, self._samples[:self.per_sheet], runner.val_dataloader,
                         Path(runner.work_dir) / 'predictions.png')

    def before_test_epoch(self, runner: Runner) -> None:
        self._samples, self._sheets = [], 0

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                        outputs: Optional[Sequence[Any]] = None) -> None:
        if not self.draw:
            return
        self._samples.extend(outputs)
        while len(self._samples) >= self.per_sheet:
            self._test_sheet(runner)

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        if self.draw and self._samples:
            self._test_sheet(runner)

    def _test_sheet(self, runner: Runner) -> None:
        folder = Path(self.test_out_dir or Path(runner.work_dir) / 'predictions')
        rank = get_rank()
        suffix = f'_{rank}' if rank else ''
        samples, self._samples = self._samples[:self.per_sheet], self._samples[self.per_sheet:]
        self.attempt(runner, draw_sheet, samples, runner.test_dataloader,
                     folder / f'sheet_{self._sheets:04d}{suffix}.png')
        self._sheets += 1


def draw_sheet(samples: Sequence[Any], dataloader: DataLoader, out: Path) -> None:
    from asl_det.analysis.pictures import plot_sheet  # matplotlib only when it is needed
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_sheet(samples, dataloader.dataset.metainfo['classes'], out,
               loader=loader_in(dataloader.dataset))
