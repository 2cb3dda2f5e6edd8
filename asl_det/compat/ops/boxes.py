"""Overlaps and suppression of boxes ``(x1, y1, x2, y2)``.

``offset`` is added to widths and heights. 0 / 0, the overlap of two boxes
without area, is NaN: not above any threshold, so such boxes are kept.
"""

from typing import List, Tuple

import numpy as np
import torch
import torchvision
from torch import Tensor


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, *, mode: int, aligned: bool,
                  offset: int) -> None:
    """Intersection over union (``mode`` 0) or over the area of the first box (1)."""
    first = bboxes1 if aligned else bboxes1.unsqueeze(1)
    inter = _intersection(first, bboxes2, offset)
    area = _area(first, offset)
    ious.copy_(inter / (area if mode else area + _area(bboxes2, offset) - inter))


def _intersection(a: Tensor, b: Tensor, offset: int) -> Tensor:
    extent = torch.minimum(a[..., 2:4], b[..., 2:4]) - torch.maximum(a[..., :2], b[..., :2])
    width, height = (extent + offset).clamp(min=0).unbind(-1)
    return width * height


def _area(boxes: Tensor, offset: int) -> Tensor:
    width, height = (boxes[..., 2:4] - boxes[..., :2] + offset).unbind(-1)
    return width * height


def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Indices kept, best score first."""
    shift = boxes.new_tensor([0, 0, offset, offset])
    # Single precision, as mmcv compares: an IoU of 0.3 is not above a threshold of 0.3.
    return torchvision.ops.nms(boxes + shift, scores, float(np.float32(iou_threshold)))


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, *, iou_threshold: float, sigma: float,
            min_score: float, method: int, offset: int) -> Tensor:
    """Soft-NMS (arXiv 1704.04503): writes boxes and decayed scores to ``dets (N, 5)``.

    ``method``: 0 removes overlapping boxes, 1 decays linearly, 2 with a
    Gaussian. Returns the indices of the boxes written, in that order.
    """
    corners, area = _columns(boxes, offset)
    score = scores.detach().float().numpy().copy()
    order = np.arange(len(score))
    i = 0
    while i < len(order):
        # As mmcv's scan: a NaN in front is never beaten, one further back never wins.
        values = score[order[i:]]
        best = i if np.isnan(values[0]) else i + np.nanargmax(values)
        order[[i, best]] = order[[best, i]]
        rest = order[i + 1:]
        overlap = _overlap(corners, area, order[i], rest, offset)
        if method == 2:
            score[rest] *= np.exp(-overlap**2 / sigma)
        else:
            score[rest] *= np.where(overlap >= np.float32(iou_threshold),
                                    1 - overlap if method == 1 else 0, 1)
        kept = ~(score[rest] < np.float32(min_score))
        # mmcv puts the last box in the place of a dropped one: that decides among equal scores.
        count = np.count_nonzero(kept)
        rest[:count][~kept[:count]] = rest[count:][kept[count:]][::-1]
        order = order[:i + 1 + count]
        i += 1
    index = torch.from_numpy(order)
    dets[:len(order), :4] = boxes[index]
    dets[:len(order), 4] = torch.from_numpy(score[order])
    return index


def nms_match(dets: Tensor, *, iou_threshold: float) -> List[List[int]]:
    """Groups of indices: a kept box of ``dets (N, 5)``, then those it suppresses."""
    corners, area = _columns(dets, 0)
    left = dets[:, 4].sort(descending=True)[1].numpy()
    groups = []
    while len(left):
        matched = _overlap(corners, area, left[0], left, 0) >= np.float32(iou_threshold)
        matched[0] = True
        groups.append(left[matched].tolist())
        left = left[~matched]
    return groups


def _columns(boxes: Tensor, offset: int) -> Tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(4, N)`` and areas, for loops over boxes: numpy starts faster than torch."""
    boxes = boxes[:, :4].detach().float()
    return np.ascontiguousarray(boxes.numpy().T), _area(boxes, offset).numpy()


def _overlap(corners: np.ndarray, area: np.ndarray, box: int, others: np.ndarray,
             offset: int) -> np.ndarray:
    """Intersection over union of one box with others, all given by index."""
    x1, y1, x2, y2 = corners[:, others]
    left, top, right, bottom = corners[:, box]
    width = np.maximum(np.minimum(x2, right) - np.maximum(x1, left) + offset, 0)
    height = np.maximum(np.minimum(y2, bottom) - np.maximum(y1, top) + offset, 0)
    inter = width * height
    with np.errstate(invalid='ignore', divide='ignore'):
        return inter / (area[box] + area[others] - inter)
