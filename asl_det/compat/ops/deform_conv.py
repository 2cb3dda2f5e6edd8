"""Deformable convolution (arXiv 1703.06211) and its modulated form (arXiv 1811.11168)."""

import math
from typing import Callable, NamedTuple, Optional, Tuple

import torch
import torchvision
from torch import Tensor

from asl_det.compat.ops.common import single, write_gradients

Pair = Tuple[int, int]


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor,
                        columns: Tensor, ones: Tensor, **shape: int) -> None:
    output.copy_(_plain(shape)(input, offset, weight))


def deform_conv_backward_input(input: Tensor, offset: Tensor, grad_output: Tensor,
                               grad_input: Tensor, grad_offset: Tensor, weight: Tensor,
                               columns: Tensor, **shape: int) -> None:
    convolve = _plain(shape)
    write_gradients(lambda x, o: convolve(x, o, weight), [input, offset],
                    [grad_input, grad_offset], grad_output)


def deform_conv_backward_parameters(input: Tensor, offset: Tensor, grad_output: Tensor,
                                    grad_weight: Tensor, columns: Tensor, ones: Tensor, *,
                                    scale: float, **shape: int) -> None:
    convolve = _plain(shape)
    weight = torch.zeros_like(grad_weight)  # linear in the weight
    write_gradients(lambda w: convolve(input, offset, w), [weight], [grad_weight],
                    grad_output * scale)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
                                  offset: Tensor, mask: Tensor, output: Tensor, columns: Tensor,
                                  **shape: int) -> None:
    output.copy_(_modulated(shape, output)(input, weight, bias, offset, mask))


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
                                   offset: Tensor, mask: Tensor, columns: Tensor,
                                   grad_input: Tensor, grad_weight: Tensor, grad_bias: Tensor,
                                   grad_offset: Tensor, grad_mask: Tensor, grad_output: Tensor,
                                   **shape: int) -> None:
    inputs = [input, weight, bias, offset, mask]
    grads = [grad_input, grad_weight, grad_bias, grad_offset, grad_mask]
    write_gradients(_modulated(shape, grad_output), inputs, grads, grad_output)


class _Convolution(NamedTuple):
    stride: Pair
    padding: Pair
    dilation: Pair

    def __call__(self, x: Tensor, offset: Tensor, weight: Tensor, bias: Optional[Tensor] = None,
                 mask: Optional[Tensor] = None) -> Tensor:
        if offset.requires_grad:
            offset = self._hold_border(offset, weight.shape[2:])
        x, offset, weight, bias, mask = (
            None if t is None else single(t) for t in (x, offset, weight, bias, mask))
        return torchvision.ops.deform_conv2d(x, offset, weight, bias, self.stride, self.padding,
                                             self.dilation, mask)

    def _hold_border(self, offset: Tensor, kernel: Pair) -> Tensor:
        """No gradient for taps at exactly -1: outside for mmcv, on the border for torchvision."""
        steps = [
            (torch.arange(taps)[:, None] * dilation + torch.arange(size) * stride - padding)
            for taps, size, stride, padding, dilation in zip(
                kernel, offset.shape[2:], self.stride, self.padding, self.dilation, strict=True)]
        taps = offset.view(len(offset), -1, *kernel, 2, *offset.shape[2:])
        y, x = (step.to(offset) for step in steps)  # (kernel, output) rows and columns
        border = torch.stack([taps[:, :, :, :, 0] + y[:, None, :, None],
                              taps[:, :, :, :, 1] + x[:, None, :]], 4) == -1
        return torch.where(border, taps.detach(), taps).view_as(offset)


def _plain(shape: dict) -> _Convolution:
    return _Convolution((shape['dH'], shape['dW']), (shape['padH'], shape['padW']),
                        (shape['dilationH'], shape['dilationW']))


def _modulated(shape: dict, output: Tensor) -> Callable[..., Tensor]:
    convolve = _Convolution((shape['stride_h'], shape['stride_w']),
                            (shape['pad_h'], shape['pad_w']),
                            (shape['dilation_h'], shape['dilation_w']))
    taps = shape['deformable_group'] * shape['kernel_h'] * shape['kernel_w']

    def run(x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return convolve(x, _buffer('offset', offset, 2 * taps, output), weight,
                        bias if shape['with_bias'] else None,
                        _buffer('mask', mask, taps, output))

    return run


def _buffer(name: str, values: Tensor, channels: int, output: Tensor) -> Tensor:
    """The values of every image as mmcv reads them: a flat buffer that may be too long.

    DyHead hands over the offsets of a larger level.
    """
    shape = (channels, *output.shape[2:])
    if values.shape[1:] == shape:
        return values
    count = math.prod(shape)
    if values.shape[1:].numel() < count:
        raise ValueError(f'{name} of shape {tuple(values.shape)}: expected {shape}, or more '
                         f'values than these {count}, for each of the {len(output)} images')
    return values.flatten(1)[:, :count].reshape(-1, *shape)
