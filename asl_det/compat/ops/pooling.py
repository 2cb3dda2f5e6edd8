"""Pooling of regions of interest, rows ``(image, x1, y1, x2, y2)``."""

import torch
import torchvision
from torch import Tensor

from asl_det.compat.ops.common import missing, single, write_gradients


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
