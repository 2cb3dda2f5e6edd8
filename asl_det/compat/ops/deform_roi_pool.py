"""RoI pooling whose bins are moved by learned offsets (arXiv 1703.06211).

Every moved bin is a region of its own for torchvision's roi_align. ``offset``
is ``(N, 2, height, width)``, right and down in shares of ``gamma`` times the
extent of the region, or empty.
"""

import torch
import torchvision
from torch import Tensor


def deform_roi_pool_forward(input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, *,
                            pooled_height: int, pooled_width: int, spatial_scale: float,
                            sampling_ratio: int, gamma: float) -> None:
    shape = (len(rois), pooled_height, pooled_width)
    bins = _bins(rois, offset, shape, spatial_scale, gamma)
    pooled = torchvision.ops.roi_align(input.float(), bins, 1, 1.0, sampling_ratio, aligned=True)
    output.copy_(pooled.view(*shape, input.size(1)).permute(0, 3, 1, 2))


def deform_roi_pool_backward(grad_output: Tensor, input: Tensor, rois: Tensor, offset: Tensor,
                             grad_input: Tensor, grad_offset: Tensor, *, pooled_height: int,
                             pooled_width: int, spatial_scale: float, sampling_ratio: int,
                             gamma: float) -> None:
    shape = (len(rois), pooled_height, pooled_width)
    bins = _bins(rois, offset, shape, spatial_scale, gamma)
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


def _bins(rois: Tensor, offset: Tensor, shape: tuple, scale: float, gamma: float) -> Tensor:
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
