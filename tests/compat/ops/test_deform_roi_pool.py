"""Deformable RoI pooling against a plain-Python version of mmcv's kernel."""

import itertools
import math

import pytest
import torch
from mmcv.ops import DeformRoIPoolPack, ModulatedDeformRoIPoolPack, deform_roi_pool

SIZE, SCALE, GAMMA = (2, 3), 0.5, 0.1


def pixels(y, x, height, width):
    """Rows and columns around a sample; none where it is more than a pixel outside."""
    if not (-1 <= y <= height and -1 <= x <= width):
        return None
    found = []
    for v, size in ((y, height), (x, width)):
        low = min(int(max(v, 0)), size - 1)
        high = min(low + 1, size - 1)
        found.append((low, high, max(v, 0) - low if high > low else 0.0))
    return found


def mmcv_deform_roi_pool(x, rois, offset, upstream, ratio):
    """Value, gradient of x, gradient of the offsets."""
    height, width = x.shape[2:]
    out = torch.zeros(len(rois), x.size(1), *SIZE, dtype=torch.double)
    grad_x, grad_offset = torch.zeros_like(x), torch.zeros_like(offset)
    for n, (image, *box) in enumerate(rois.tolist()):
        left, top, right, bottom = (v * SCALE - 0.5 for v in box)
        w, h = right - left, bottom - top
        rows = ratio or math.ceil(h / SIZE[0])
        cols = ratio or math.ceil(w / SIZE[1])
        for i, j in itertools.product(*map(range, SIZE)):
            move_x, move_y = (GAMMA * e * float(offset[n, k, i, j]) if len(offset) else 0.0
                              for k, e in enumerate((w, h)))
            up = upstream[n, :, i, j] / max(rows * cols, 1)
            for r, c in itertools.product(range(rows), range(cols)):
                y = top + move_y + (i + (r + 0.5) / rows) * h / SIZE[0]
                z = left + move_x + (j + (c + 0.5) / cols) * w / SIZE[1]
                around = pixels(y, z, height, width)
                if around is None:
                    continue
                (y0, y1, ly), (x0, x1, lx) = around
                image_x, image_grad = x[int(image)], grad_x[int(image)]
                for row, a in ((y0, 1 - ly), (y1, ly)):
                    for col, b in ((x0, 1 - lx), (x1, lx)):
                        out[n, :, i, j] += a * b * image_x[:, row, col] / (rows * cols)
                        image_grad[:, row, col] += a * b * up
                if len(offset):
                    v = {(p, q): (up * image_x[:, row, col]).sum() for p, row in enumerate((y0, y1))
                         for q, col in enumerate((x0, x1))}
                    grad_offset[n, 0, i, j] += GAMMA * w * (
                        (v[1, 1] - v[1, 0]) * (y - y0) + (v[0, 1] - v[0, 0]) * (y1 - y))
                    grad_offset[n, 1, i, j] += GAMMA * h * (
                        (v[1, 1] - v[0, 1]) * (z - x0) + (v[1, 0] - v[0, 0]) * (x1 - z))
    return out, grad_x, grad_offset


ROIS = torch.tensor([
    [0, 2.3, 1.2, 15.1, 13.8],
    [1, 3, 2, 15, 10],  # bins of exactly two pixels
    [0, -9, -7, 4, 5],  # partly outside
    [1, 12, 9, 30, 26],
    [0, 9, 9, 4, 15],  # turned inside out
])


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('with_offset', [True, False])
def test_values_and_gradients_are_mmcvs(ratio, with_offset):
    x = torch.randn(2, 3, 8, 9)
    offset = torch.randn(5, 2, *SIZE) if with_offset else torch.empty(0)
    leaves = [x.clone().requires_grad_(), offset.clone().requires_grad_()]
    out = deform_roi_pool(leaves[0], ROIS, leaves[1] if with_offset else None, SIZE, SCALE, ratio,
                          GAMMA)
    upstream = torch.randn_like(out)
    found = torch.autograd.grad(out, leaves[:1 + with_offset], upstream)
    expected = mmcv_deform_roi_pool(x.double(), ROIS, offset.double(), upstream.double(), ratio)
    for ours, theirs in zip([out, *found], expected[:2 + with_offset], strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('layer', [DeformRoIPoolPack, ModulatedDeformRoIPoolPack])
def test_the_layers_train(layer):
    pool = layer(SIZE, 3, deform_fc_channels=8, spatial_scale=SCALE)
    x = torch.randn(2, 3, 8, 9, requires_grad=True)
    pool(x, ROIS[:4]).square().sum().backward()
    assert x.grad.abs().sum() > 0 and pool.offset_fc[-1].weight.grad.abs().sum() > 0
