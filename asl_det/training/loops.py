"""Where the loops of mmengine go on after a checkpoint."""

from typing import Any, Callable, Optional, Sequence

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from asl_det.registry import LOOPS, register


@register(LOOPS)
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop of epochs, which can go on in the middle of one.

    mmengine's own starts the epoch of the checkpoint anew. Here the batches
    that were trained are loaded and left out: samplers, and the random numbers
    of workers, are then where they were. The engine puts this loop in the
    place of ``EpochBasedTrainLoop``.

    Attributes:
        skip: batches of the next epoch that were trained before.
        after_skip: called after them.
    """

    skip = 0
    after_skip: Optional[Callable[[], None]] = None

    def run_iter(self, idx: int, data_batch: Sequence[Any]) -> None:
        if idx >= self.skip:
            super().run_iter(idx, data_batch)
        elif idx == self.skip - 1 and self.after_skip is not None:
            self.after_skip()

    def run_epoch(self) -> None:
        super().run_epoch()
        self.skip = 0


class ResumedData:
    """The endless data of a loop of iterations, which leaves out what was trained before.

    Args:
        loop: of which this takes the iterator's place.
        after_skip: called before the first batch that is trained.
    """

    def __init__(self, loop: IterBasedTrainLoop, after_skip: Callable[[], None]) -> None:
        self._data = loop.dataloader_iterator
        self._after_skip: Optional[Callable[[], None]] = after_skip
        # mmengine asks for them one by one, onedl-mmengine by skip_iter or, by option, not at all.
        self._left = 0 if hasattr(self._data, 'skip_iter') else loop.iter

    def __iter__(self) -> 'ResumedData':
        return self

    def skip_iter(self, count: int) -> None:
        self._data.skip_iter(count)
        self._data._ensure_iterator()  # draws a seed, as it did when the training began

    def __next__(self) -> Any:
        if self._left:
            self._left -= 1
        elif self._after_skip is not None:
            self._after_skip()
            self._after_skip = None
        return next(self._data)
