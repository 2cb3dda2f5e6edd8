"""The two halves of a convolution that is computed at some pixels only (inference)."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
