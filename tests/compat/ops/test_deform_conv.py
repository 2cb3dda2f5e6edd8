"""Deformable convolution against a plain-Python version of mmcv's formulas."""

import itertools
import math

import pytest
import torch
import torchvision
from comparison import check_same
from mmcv.ops import (
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)


def corners(y, x, height, width):
    """(row, column, share, d share / dy, d share / dx) of the pixels around a point.

    A point at -1 or outside, or at the height or width or outside, has none.
    """
    if not (-1 < y < height and -1 < x < width):
        return []
    top, left = math.floor(y), math.floor(x)
    found = []
    for row, col in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= col < width:
            a, b = 1 - abs(y - row), 1 - abs(x - col)
            found.append((row, col, a * b, (2 * (row > top) - 1) * b, a * (2 * (col > left) - 1)))
    return found


def mmcv_deform_conv(x, offset, mask, weight, bias, upstream, stride, padding, dilation,
                     deform_groups):
    """Value and the gradients in the order x, offset, mask, weight, bias.

    Offset and mask of an image are read as flat buffers of
    (channels, output height, output width), whatever their shape.
    """
    batch, channels, height, width = x.shape
    outs, per_group, kh, kw = weight.shape
    groups, taps = channels // per_group, kh * kw
    rows, cols = ((size + 2 * padding - dilation * (k - 1) - 1) // stride + 1
                  for size, k in ((height, kh), (width, kw)))
    split = weight.reshape(groups, outs // groups, per_group * taps)
    up = upstream.reshape(batch, groups, outs // groups, rows * cols)
    grad_columns = torch.einsum('gok,bgop->bgkp', split, up).reshape(batch, channels, taps, rows,
                                                                     cols)
    columns = torch.zeros_like(grad_columns)
    grad_x = torch.zeros_like(x)
    grad_offset, grad_mask = (torch.zeros_like(t.flatten(1)) for t in (offset, mask))
    offset, mask = offset.flatten(1), mask.flatten(1)
    for b, c, t, i, j in itertools.product(*map(range, columns.shape)):
        group = c // (channels // deform_groups)
        at_mask = ((group * taps + t) * rows + i) * cols + j
        at_y = ((group * taps + t) * 2 * rows + i) * cols + j
        at_x = at_y + rows * cols
        y = i * stride - padding + t // kw * dilation + float(offset[b, at_y])
        z = j * stride - padding + t % kw * dilation + float(offset[b, at_x])
        grad = grad_columns[b, c, t, i, j]
        for row, col, share, dy, dx in corners(y, z, height, width):
            pixel = x[b, c, row, col]
            columns[b, c, t, i, j] += mask[b, at_mask] * share * pixel
            grad_x[b, c, row, col] += grad * mask[b, at_mask] * share
            grad_mask[b, at_mask] += grad * share * pixel
            grad_offset[b, at_y] += grad * mask[b, at_mask] * dy * pixel
            grad_offset[b, at_x] += grad * mask[b, at_mask] * dx * pixel
    flat = columns.reshape(batch, groups, per_group * taps, rows * cols)
    out = torch.einsum('gok,bgkp->bgop', split, flat).reshape(batch, outs, rows, cols)
    grad_weight = torch.einsum('bgop,bgkp->gok', up, flat).reshape(weight.shape)
    return (out + bias[:, None, None], grad_x, grad_offset, grad_mask, grad_weight,
            upstream.sum((0, 2, 3)))


OFFSETS = {
    'zero': lambda *shape: torch.zeros(*shape, dtype=torch.double),
    'whole': lambda *shape: torch.randint(-4, 5, shape).double(),
    'random': lambda *shape: torch.randn(*shape, dtype=torch.double) * 2,
}
SHAPES = {  # stride, padding, dilation, groups, deform_groups
    'plain': (1, 1, 1, 1, 1),
    'stride': (2, 1, 1, 1, 1),
    'dilation': (1, 2, 2, 1, 1),
    'groups': (1, 1, 1, 2, 2),
}


def tensors(offsets, shape, larger=0):
    """x, offset, mask, weight, bias; offset and mask ``larger`` rows and columns too large."""
    stride, padding, dilation, groups, deform_groups = SHAPES[shape]
    x = torch.randn(2, 4, 5, 4, dtype=torch.double)
    weight = torch.randn(6, 4 // groups, 3, 3, dtype=torch.double)
    rows, cols = ((n + 2 * padding - 2 * dilation - 1) // stride + 1 + larger for n in (5, 4))
    offset = OFFSETS[offsets](2, 18 * deform_groups, rows, cols)
    mask = torch.rand(2, 9 * deform_groups, rows, cols, dtype=torch.double)
    return x, offset, mask, weight, torch.randn(6, dtype=torch.double)


def check(function, inputs, expected_of):
    leaves = [t.clone().requires_grad_() for t in inputs]
    out = function(*leaves)
    upstream = torch.randn_like(out)
    found = [out, *torch.autograd.grad(out, leaves, upstream)]
    for ours, theirs in zip(found, expected_of(upstream), strict=True):
        torch.testing.assert_close(ours, theirs.reshape(ours.shape))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('offsets', OFFSETS)
def test_modulated_deform_conv_is_mmcvs(offsets, shape):
    inputs = tensors(offsets, shape)
    stride, padding, dilation, groups, deform_groups = SHAPES[shape]
    check(lambda *t: modulated_deform_conv2d(*t, *SHAPES[shape]), inputs,
          lambda up: mmcv_deform_conv(*inputs, up, stride, padding, dilation, deform_groups))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('offsets', OFFSETS)
def test_deform_conv_is_mmcvs(offsets, shape):
    x, offset, mask, weight, bias = tensors(offsets, shape)
    stride, padding, dilation, groups, deform_groups = SHAPES[shape]

    def expected(up):
        found = mmcv_deform_conv(x, offset, torch.ones_like(mask), weight, torch.zeros_like(bias),
                                 up, stride, padding, dilation, deform_groups)
        return found[0], found[1], found[2], found[4]

    check(lambda *t: deform_conv2d(*t, *SHAPES[shape]), [x, offset, weight], expected)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('offsets', ['whole', 'random'])
def test_larger_offsets_and_masks_are_read_as_flat_buffers(offsets, shape):
    inputs = tensors(offsets, shape, larger=3)
    stride, padding, dilation, groups, deform_groups = SHAPES[shape]
    check(lambda *t: modulated_deform_conv2d(*t, *SHAPES[shape]), inputs,
          lambda up: mmcv_deform_conv(*inputs, up, stride, padding, dilation, deform_groups))


def test_channels_last_is_only_a_layout():
    x, offset, mask, weight, bias = tensors('random', 'plain', larger=2)
    last = [t.clone(memory_format=torch.channels_last) for t in (x, offset, mask, weight)]
    check_same(lambda *t: modulated_deform_conv2d(*t, bias, 1, 1),
               lambda *t: modulated_deform_conv2d(*(u.contiguous() for u in t), bias, 1, 1), last)


@pytest.mark.parametrize('small', ['offset', 'mask'])
def test_offsets_that_are_too_small_are_named(small):
    x, offset, mask, weight, bias = tensors('random', 'plain')
    if small == 'offset':
        offset = offset[..., 1:]
    else:
        mask = mask[..., 1:]
    with pytest.raises(ValueError, match=rf'{small} of shape \(2, \d+, 5, 3\): expected'):
        modulated_deform_conv2d(x, offset, mask, weight, bias, 1, 1)


@pytest.mark.parametrize('layer', [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_border_taps_of_a_new_layer_do_not_pull_at_the_offsets(layer):
    """With zero offsets the border taps lie at -1 and at the size: outside, without gradient."""
    conv = layer(2, 3, 3, padding=1)
    offset = []
    conv.conv_offset.register_forward_hook(
        lambda module, inputs, out: (out.retain_grad(), offset.append(out))[1])
    conv(torch.randn(1, 2, 4, 5)).sum().backward()
    grad = offset[0].grad[0]
    for tap, (i, j) in enumerate(itertools.product(range(3), range(3))):
        outside = torch.zeros(4, 5, dtype=torch.bool)
        if i != 1:
            outside[0 if i == 0 else -1] = True
        if j != 1:
            outside[:, 0 if j == 0 else -1] = True
        for channel in (2 * tap, 2 * tap + 1):
            assert (grad[channel][outside] == 0).all() and (grad[channel][~outside] != 0).any()


@pytest.mark.parametrize('bias', [True, False])
def test_in_single_precision_it_is_torchvisions(bias):
    inputs = [torch.randn(2, 4, 12, 11), torch.randn(2, 18, 6, 6), torch.rand(2, 9, 6, 6),
              torch.randn(6, 4, 3, 3), *([torch.randn(6)] if bias else [])]
    check_same(
        lambda x, o, m, w, b=None: modulated_deform_conv2d(x, o, m, w, b, 2, 1, 1, 1, 1),
        lambda x, o, m, w, b=None: torchvision.ops.deform_conv2d(x, o, w, b, 2, 1, 1, m), inputs)


@pytest.mark.parametrize('layer', [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_it_trains_under_autocast_on_cpu(layer):
    conv, x = layer(4, 4, 3, padding=1), torch.randn(1, 4, 8, 8)
    single = conv(x)
    with torch.autocast('cpu', torch.bfloat16):
        out = conv(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), single, atol=0.05, rtol=0.05)
    out.float().sum().backward()
    assert conv.weight.grad.abs().sum() > 0
