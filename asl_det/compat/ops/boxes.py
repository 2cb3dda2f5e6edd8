"""Boxes ``(x1, y1, x2, y2)``: overlaps, suppression, and features pooled in them.

``offset`` is added to widths and heights. 0 / 0, the overlap of two boxes
without area, is NaN: not above any threshold, so such boxes are kept.
"""

from typing import List, Tuple

import numpy as np
import torch
import torchvision
from torch import Tensor

from asl_det.compat.ops.common import missing, single, write_gradients


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


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, *, aligned_height: int, aligned_width: int,
                      spatial_scale: float, sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    _require_average(pool_mode)
    output.copy_(
        torchvision.ops.roi_align(single(input), single(rois), (aligned_height, aligned_width),
                                  spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_input: Tensor, *, aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int, pool_mode: int,
                       aligned: bool) -> None:
    _require_average(pool_mode)
    # Linear in its input: the gradient is the same at any input, so at zeros.
    write_gradients(
        lambda x: torchvision.ops.roi_align(single(x), single(rois),
                                            (aligned_height, aligned_width), spatial_scale,
                                            sampling_ratio, aligned),
        [torch.zeros_like(grad_input)], [grad_input], grad_output)


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        missing('roi_align with max pooling')()


def roi_pool_forward(input: Tensor, rois: Tensor, output: Tensor, argmax: Tensor, *,
                     pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
    """mmcv cuts bins out of unrounded coordinates and counts the last pixel to a box;
    torchvision rounds first. So torchvision gets the bins, whole pixels, as regions."""
    start = single(rois)[:, 1:3] * spatial_scale
    extent = (single(rois)[:, 3:] + 1) * spatial_scale - start
    bins = [_bins(start[:, k], extent[:, k], count, input.size(3 - k))
            for k, count in ((0, pooled_width), (1, pooled_height))]
    shape = (len(rois), pooled_height, pooled_width)
    (x1, x2), (y1, y2) = ([edge.unsqueeze(1 + k).expand(shape) for edge in pair]
                          for k, pair in enumerate(bins))
    image = single(rois)[:, :1, None].expand(shape)
    regions = torch.stack([image, x1, y1, x2 - 1, y2 - 1], -1).flatten(0, 2)
    pooled, index = torch.ops.torchvision.roi_pool(single(input), regions, 1.0, 1, 1)
    empty = (x2 <= x1) | (y2 <= y1) | (extent <= 0).any(1)[:, None, None]
    for target, values, nothing in ((output, pooled, 0), (argmax, index, -1)):
        target.copy_(values.view(*shape, input.size(1)).permute(0, 3, 1, 2))
        target.masked_fill_(empty.unsqueeze(1), nothing)


def _bins(start: Tensor, extent: Tensor, count: int, size: int) -> tuple:
    """First pixel and end of the ``count`` bins of every region, ``(N, count)`` each."""
    step = torch.arange(count, device=start.device).to(start)
    width, start = (extent / count).unsqueeze(1), start.unsqueeze(1)
    return ((step * width + start).floor().clamp(0, size),
            ((step + 1) * width + start).ceil().clamp(0, size))


def roi_pool_backward(grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor, *,
                      pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
    grad_input.copy_(
        torch.ops.torchvision._roi_pool_backward(
            single(grad_output), single(rois), argmax, spatial_scale, pooled_height,
            pooled_width, *grad_input.shape))


def deform_roi_pool_forward(input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, *,
                            pooled_height: int, pooled_width: int, spatial_scale: float,
                            sampling_ratio: int, gamma: float) -> None:
    shape = (len(rois), pooled_height, pooled_width)
    bins = _moved_bins(rois, offset, shape, spatial_scale, gamma)
    pooled = torchvision.ops.roi_align(input.float(), bins, 1, 1.0, sampling_ratio, aligned=True)
    output.copy_(pooled.view(*shape, input.size(1)).permute(0, 3, 1, 2))


def deform_roi_pool_backward(grad_output: Tensor, input: Tensor, rois: Tensor, offset: Tensor,
                             grad_input: Tensor, grad_offset: Tensor, *, pooled_height: int,
                             pooled_width: int, spatial_scale: float, sampling_ratio: int,
                             gamma: float) -> None:
    shape = (len(rois), pooled_height, pooled_width)
    bins = _moved_bins(rois, offset, shape, spatial_scale, gamma)
    grad = grad_output.float().permute(0, 2, 3, 1).reshape(-1, input.size(1))
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(grad[:, :, None, None], bins, 1.0, 1, 1,
                                                  *input.shape, sampling_ratio, True))
    if offset.numel():
        count = pooled_height * pooled_width
        slopes = torch.stack([_slopes(input.float(), *part, sampling_ratio) for part in zip(
            bins.split(count), grad.split(count), strict=True)])
        extent = (rois[:, 3:] - rois[:, 1:3]).float() * (spatial_scale * gamma)
        grad_offset.copy_((slopes * extent.unsqueeze(2)).view_as(grad_offset))


def _moved_bins(rois: Tensor, offset: Tensor, shape: tuple, scale: float, gamma: float) -> Tensor:
    """The bins on the feature map, ``(N * height * width, 5)``."""
    rois = rois.float()
    image, start = rois[:, :1], rois[:, 1:3] * scale
    extent = (rois[:, 3:] * scale - start)[:, None, None]
    step = extent / extent.new_tensor([shape[2], shape[1]])
    y, x = (torch.arange(n, device=rois.device).to(rois) for n in shape[1:])
    cells = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)
    start = start[:, None, None] + cells * step
    if offset.numel():
        start = start + gamma * extent * offset.float().permute(0, 2, 3, 1)
    end = start + step
    # Rounded up, a bin of two pixels would be sampled at three points.
    end = torch.where((end - 0.5) - (start - 0.5) > step, torch.nextafter(end, start), end)
    image = image[:, None, None].expand(*shape, 1)
    return torch.cat([image, start, end], -1).flatten(0, 2)


def _slopes(input: Tensor, bins: Tensor, grad: Tensor, sampling_ratio: int) -> Tensor:
    """What moving the bins of one region right and down by a pixel adds, ``(2, bins)``.

    As in mmcv, samples up to a pixel outside count, by the slope of the pixels at the border.
    """
    height, width = input.shape[2:]
    extent = bins[0, 3:] - bins[0, 1:3]
    counts = [sampling_ratio if sampling_ratio > 0 else int(e.ceil()) for e in extent]
    if min(counts) <= 0:
        return grad.new_zeros(2, len(bins))
    x, y = (bins[:, 1 + k, None] - 0.5 + (torch.arange(n, device=bins.device) + 0.5) * e / n
            for k, (n, e) in enumerate(zip(counts, extent, strict=True)))
    y, x = y.unsqueeze(2), x.unsqueeze(1)  # (bins, rows, 1), (bins, 1, columns)
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    top, left = (v.clamp(0, size - 1).long() for v, size in ((y, height), (x, width)))
    bottom, right = ((v + 1).clamp(max=size - 1) for v, size in ((top, height), (left, width)))
    pixels = input[int(bins[0, 0])]
    tl, tr, bl, br = (torch.einsum('cbij,bc->bij', pixels[:, row, col], grad)
                      for row in (top, bottom) for col in (left, right))
    slopes = ((br - bl) * (y - top) + (tr - tl) * (bottom - y),
              (br - tr) * (x - left) + (bl - tl) * (right - x))
    return torch.stack([(slope * inside).mean((1, 2)) for slope in slopes])
