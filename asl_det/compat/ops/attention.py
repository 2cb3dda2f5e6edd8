"""Multi-scale deformable attention."""

import torch.nn.functional as F
from torch import Tensor

from asl_det.compat.ops.common import write_gradients


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
