from pathlib import Path
from typing import Any, List, Optional, Sequence

from mmengine.dist import get_rank, is_main_process
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from asl_det.hooks.drawing import DrawingHook
from asl_det.multilabel.loading import loader_in
from asl_det.registry import HOOKS, register


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
