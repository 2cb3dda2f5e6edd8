"""What travels with an image through the classifier."""

from mmengine.structures import BaseDataElement


class MultiLabelSample(BaseDataElement):
    """Labels and predictions of one image with C classes.

    Attributes:
        gt_label: int8 ``(C,)``: 1 present, 0 absent, -1 unknown. May be
            missing where nothing is known.
        logits: float32 ``(C,)``, by which classes are ranked: those from 17
            upwards all have the score 1.
        scores: float32 ``(C,)``, predicted probabilities, their sigmoid.
        pred_labels: int64 ``(K,)``, the classes whose score reaches the
            classifier's threshold, in rising order.

    ``img_path``, ``ori_shape`` and ``img_shape`` are meta information.
    """
