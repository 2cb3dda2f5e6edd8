"""Layers and losses: convolutions that move, masked convolution, CARAFE, attention, batch norm."""

import math
from typing import Callable, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
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


def masked_im2col_forward(im: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, col: Tensor, *,
                          kernel_h: int, kernel_w: int, pad_h: int, pad_w: int) -> None:
    """The windows of one image ``(1, C, H, W)`` as ``(C * kernel_h * kernel_w, pixels)``."""
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    rows = torch.arange(kernel_h, device=im.device)[:, None, None] + mask_h_idx
    cols = torch.arange(kernel_w, device=im.device)[:, None] + mask_w_idx
    col.copy_(padded[:, rows, cols].flatten(0, 2))


def masked_col2im_forward(col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, *,
                          height: int, width: int, channels: int) -> None:
    im[0, :, mask_h_idx, mask_w_idx] = col


def carafe_forward(features: Tensor, masks: Tensor, rfeatures: Tensor, routput: Tensor,
                   rmasks: Tensor, output: Tensor, *, kernel_size: int, group_size: int,
                   scale_factor: int) -> None:
    rfeatures.copy_(features)  # what the backward pass gets in the place of the features
    output.copy_(_carafe(features, masks, kernel_size, group_size, scale_factor))


def carafe_backward(grad_output: Tensor, rfeatures: Tensor, masks: Tensor, rgrad_output: Tensor,
                    rgrad_input_hs: Tensor, rgrad_input: Tensor, rgrad_masks: Tensor,
                    grad_input: Tensor, grad_masks: Tensor, *, kernel_size: int,
                    group_size: int, scale_factor: int) -> None:
    write_gradients(lambda x, m: _carafe(x, m, kernel_size, group_size, scale_factor),
                    [rfeatures, masks], [grad_input, grad_masks], grad_output)


def _carafe(x: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """Every output pixel: the window around its source pixel, weighted by its mask.

    x ``(N, C, H, W)``, masks ``(N, groups * kernel^2, H * scale, W * scale)``.
    """
    batch, channels, height, width = x.shape
    padded = F.pad(x, [kernel // 2] * 4)
    shares = masks.view(batch, groups, 1, kernel**2, height, scale, width, scale)
    out = x.new_zeros(batch, groups, channels // groups, height, scale, width, scale)
    for tap in range(kernel**2):
        top, left = divmod(tap, kernel)
        window = padded[:, :, top:top + height, left:left + width]
        window = window.reshape(batch, groups, -1, height, 1, width, 1)
        out = torch.addcmul(out, window, shares[:, :, :, tap])
    return out.view(batch, channels, height * scale, width * scale)


def ms_deform_attn_forward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                           sampling_locations: Tensor, attention_weights: Tensor, *,
                           im2col_step: int) -> Tensor:
    return _deformable_attention(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                            sampling_locations: Tensor, attention_weights: Tensor,
                            grad_output: Tensor, grad_value: Tensor, grad_sampling_loc: Tensor,
                            grad_attn_weight: Tensor, *, im2col_step: int) -> None:
    write_gradients(lambda v, s, a: _deformable_attention(v, spatial_shapes, s, a),
                    [value, sampling_locations, attention_weights],
                    [grad_value, grad_sampling_loc, grad_attn_weight], grad_output)


def _deformable_attention(value: Tensor, spatial_shapes: Tensor, locations: Tensor,
                          weights: Tensor) -> Tensor:
    """Multi-scale deformable attention (arXiv 2010.04159, equation 3).

    value ``(B, S, heads, D)`` over all levels, locations
    ``(B, Q, heads, levels, points, 2)`` in [0, 1] as (x, y), weights without
    the last axis. Returns ``(B, Q, heads * D)``.
    """
    batch, _, heads, dim = value.shape
    queries = locations.size(1)
    shapes = spatial_shapes.tolist()
    result = value.new_zeros(batch * heads, dim, queries)
    for level, part in enumerate(value.split([h * w for h, w in shapes], dim=1)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shapes[level])
        grid = locations[:, :, :, level].transpose(1, 2).flatten(0, 1) * 2 - 1
        sampled = F.grid_sample(image, grid.to(image), align_corners=False)  # (BH, D, Q, points)
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)
        result = result + (sampled * share).sum(-1)
    return result.view(batch, heads * dim, queries).transpose(1, 2).contiguous()


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    mean.copy_(input.float().mean((0, 2)))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    var.copy_((input.float() - mean[:, None]).square().mean((0, 2)))


def sync_bn_forward_output(input: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor,
                           running_mean: Tensor, running_var: Tensor, norm: Tensor, std: Tensor,
                           output: Tensor, *, eps: float, momentum: Tensor,
                           group_size: int) -> None:
    std.copy_((var + eps).sqrt())
    norm.copy_((input.float() - mean[:, None]) / std[:, None])
    output.copy_(norm * weight[:, None] + bias[:, None])
    count = input.size(0) * input.size(2) * group_size
    unbiased = var * (count / (count - 1)) if count > 1 else var
    running_mean.copy_(momentum * mean + (1 - momentum) * running_mean)
    running_var.copy_(momentum * unbiased + (1 - momentum) * running_var)


def sync_bn_backward_param(grad_output: Tensor, norm: Tensor, grad_weight: Tensor,
                           grad_bias: Tensor) -> None:
    grad_weight.copy_((grad_output.float() * norm).sum((0, 2)))
    grad_bias.copy_(grad_output.float().sum((0, 2)))


def sync_bn_backward_data(grad_output: Tensor, weight: Tensor, grad_weight: Tensor,
                          grad_bias: Tensor, norm: Tensor, std: Tensor,
                          grad_input: Tensor) -> None:
    share = (grad_weight[:, None] * norm + grad_bias[:, None]) / (norm.size(0) * norm.size(2))
    grad_input.copy_((weight / std)[:, None] * (grad_output.float() - share))


LOG_TINY = math.log(torch.finfo(torch.float32).tiny)


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *,
                               gamma: float, alpha: float) -> None:
    positive, signed, share = _terms(input, target, weight, alpha)
    log = F.logsigmoid(signed).clamp(min=LOG_TINY)
    output.copy_(-share * torch.sigmoid(-signed)**gamma * log)


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                *, gamma: float, alpha: float) -> None:
    positive, signed, share = _terms(input, target, weight, alpha)
    log = F.logsigmoid(signed).clamp(min=LOG_TINY)
    p, q = torch.sigmoid(signed), torch.sigmoid(-signed)
    grad = share * q**gamma * (gamma * p * log - q)
    grad_input.copy_(torch.where(positive, grad, -grad))


def _terms(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple:
    """Which entries are positive, logits of being right, and their shares."""
    classes = input.size(1)
    if target.numel() and target.max() > classes:
        raise ValueError(
            f'label {int(target.max())}: expected at most {classes}, the background')
    x = input if input.dtype == torch.float64 else input.float()
    positive = target.unsqueeze(1) == torch.arange(classes, device=target.device)
    share = torch.where(positive, x.new_tensor(alpha), x.new_tensor(1 - alpha))
    if weight.numel():  # one weight per class, taken at the target
        row = weight[target.clamp(0, classes - 1)].to(x)
        known = (target >= 0) & (target < classes)
        share = share * torch.where(known, row, 1).unsqueeze(1)
    return positive, torch.where(positive, x, -x), share
