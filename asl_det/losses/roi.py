"""The asymmetric loss in the box heads of two-stage detectors."""

from typing import Any, Dict

import torch
from torch import Tensor

from asl_det.losses.module import AsymmetricLoss


class RoIAsymmetricLoss(AsymmetricLoss):
    """ASL for RoI heads, which are built for a softmax with a background column.

    mmdet's ``BBoxHead`` asks its loss how many columns to predict, how they
    become scores and how right they are; the answers here are those of
    independent classes.

    Args:
        background: predict background in a column of its own, the last: one
            class more, whose score no detection uses. Without it a proposal is
            background where every class is improbable.
        **kwargs: arguments of :class:`~asl_det.losses.AsymmetricLoss`.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(self, background: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.background = background

    def get_cls_channels(self, num_classes: int) -> int:
        """Columns that the head predicts for ``num_classes`` classes."""
        return num_classes + self.background

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Scores ``(N, C + 1)`` of logits: mmdet drops the last column, of background."""
        scores = cls_score.sigmoid()
        if self.background:
            return scores
        return torch.cat([scores, 1 - scores.amax(-1, keepdim=True)], -1)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> Dict[str, Tensor]:
        """``acc``: percentage of proposals whose highest score is at their label.

        Args:
            cls_score: logits ``(N, C)``, or ``(N, C + 1)`` with background.
            labels: ``(N,)`` from 0 to C, where C is background.
        """
        right = self.get_activation(cls_score).argmax(-1) == labels
        return dict(acc=right.float().mean() * 100)
