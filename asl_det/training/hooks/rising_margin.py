from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from asl_det.compat.weights import unwrap
from asl_det.errors import UserError
from asl_det.losses import AsymmetricLoss
from asl_det.registry import HOOKS, register


@register(HOOKS)
class RisingMarginHook(Hook):
    """Lets the margins of asymmetric losses rise from 0, linearly, to what they are set to.

    A head can then start at a prior under the margin: its negatives have
    gradient from the first iteration on, and are far below the margin when it
    has risen.

    Args:
        share: part of the training that the rise takes, in (0, 1].

    Raises:
        UserError: for another share, or if no loss of the model has a margin.
    """

    def __init__(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise UserError(f'RisingMarginHook: share={share!r}: expected a part of the training '
                            'in (0, 1]')
        self.share = share

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        self._margins = [(m, m.clip) for m in model.modules()
                         if isinstance(m, AsymmetricLoss) and m.clip > 0]
        if not self._margins:
            raise UserError('RisingMarginHook: no loss of the model is an AsymmetricLoss with a '
                            'margin (clip): leave the hook out')

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Optional[Any] = None) -> None:
        part = min(1.0, runner.iter / (self.share * runner.max_iters))
        for loss, margin in self._margins:
            loss.clip = margin * part

    def after_train(self, runner: Runner) -> None:
        for loss, margin in self._margins:
            loss.clip = margin
