"""Content-aware upsampling (arXiv 1905.02188)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asl_det.compat.ops.common import write_gradients


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
