import math

import pytest
import torch
import torchvision
from comparison import check_same
from mmcv.ops import roi_align, roi_pool


def rois(n=6, size=40):
    corner = torch.rand(n, 2) * size / 2
    extent = torch.rand(n, 2) * size / 2 + 2
    return torch.cat([torch.randint(0, 2, (n, 1)).float(), corner, corner + extent], 1)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_is_torchvisions(aligned, sampling_ratio):
    boxes = rois()
    check_same(lambda x: roi_align(x, boxes, (3, 4), 0.5, sampling_ratio, 'avg', aligned),
               lambda x: torchvision.ops.roi_align(x, boxes, (3, 4), 0.5, sampling_ratio, aligned),
               [torch.randn(2, 3, 20, 20)])


def test_roi_align_by_the_largest_sample_says_what_to_install():
    with pytest.raises(NotImplementedError, match='needs an mmcv with compiled'):
        roi_align(torch.rand(1, 1, 8, 8), rois(), (2, 2), 1.0, 0, 'max', True)


def mmcv_roi_pool(x, boxes, size, scale):
    """No coordinate is rounded before it is cut into bins; the last pixel belongs to a box."""
    result = x.new_zeros(len(boxes), x.size(1), *size)
    for n, (image, *box) in enumerate(boxes.tolist()):
        start = [box[1] * scale, box[0] * scale]
        extent = [(box[3] + 1) * scale - start[0], (box[2] + 1) * scale - start[1]]
        if min(extent) <= 0:
            continue
        for i in range(size[0]):
            for j in range(size[1]):
                low, high = zip(*(
                    (min(max(math.floor(k * e / s + o), 0), limit),
                     min(max(math.ceil((k + 1) * e / s + o), 0), limit))
                    for k, e, s, o, limit in zip((i, j), extent, size, start, x.shape[2:],
                                                 strict=True)), strict=True)
                part = x[int(image), :, low[0]:high[0], low[1]:high[1]].flatten(1)
                if part.numel():
                    result[n, :, i, j] = part.amax(1)
    return result


@pytest.mark.parametrize('scale', [1.0, 0.5, 0.125])
def test_roi_pool_is_mmcvs(scale):
    boxes = rois(12)
    boxes[0, 1:] = torch.tensor([-30.0, -20, -8, 9])  # partly or all outside
    boxes[1, 1:] = torch.tensor([35.0, 30, 90, 80])
    boxes[2, 1:] = torch.tensor([20.0, 9, 12, 30])  # turned inside out
    check_same(lambda x: roi_pool(x, boxes, (3, 4), scale),
               lambda x: mmcv_roi_pool(x, boxes, (3, 4), scale), [torch.randn(2, 3, 20, 20)])


def test_pooling_without_rois_gives_nothing():
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    for pool in (roi_align, roi_pool):
        out = pool(x, torch.empty(0, 5), (2, 2), 1.0)
        assert out.shape == (0, 3, 2, 2)
        assert torch.autograd.grad(out.sum(), x)[0].abs().sum() == 0
