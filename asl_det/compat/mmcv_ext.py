"""A stand-in for ``mmcv._ext``, mmcv's module of compiled operators.

Names, argument order and in-place results are those that ``mmcv.ops`` of
mmcv 2.x calls. The work is done by torchvision and torch, on CPU and CUDA.
An operator that is not here raises when it is called.
"""

import math
from typing import Callable, List, Sequence

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def __getattr__(name: str) -> Callable:
    if name.startswith('__'):
        raise AttributeError(name)

    def missing(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f'the operator {name!r} needs an mmcv with compiled operators, and this one has none: '
            'pip uninstall mmcv-lite, then pip install -U openmim && mim install mmcv '
            '(https://mmcv.readthedocs.io/en/latest/get_started/installation.html)')

    return missing


# ---------------------------------------------------------------- suppression


def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Indices kept, best score first. ``offset`` is added to widths and heights."""
    shift = boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes + shift, scores, iou_threshold)


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, *, iou_threshold: float, sigma: float,
            min_score: float, method: int, offset: int) -> Tensor:
    """Soft-NMS (arXiv 1704.04503): writes boxes and decayed scores to ``dets (N, 5)``.

    ``method``: 0 removes overlapping boxes, 1 decays linearly, 2 with a
    Gaussian. Returns the indices of the boxes written, in that order.
    """
    shift = boxes.new_tensor([0, 0, offset, offset])
    iou = torchvision.ops.box_iou(boxes + shift, boxes + shift)
    scores = scores.clone()
    alive = torch.ones_like(scores, dtype=torch.bool)
    kept: List[int] = []
    for _ in range(len(scores)):
        best = int(torch.where(alive, scores, -math.inf).argmax())
        if not alive[best]:
            break
        dets[len(kept), :4] = boxes[best]
        dets[len(kept), 4] = scores[best]
        kept.append(best)
        alive[best] = False
        overlap = iou[best]
        if method == 0:
            decay = (overlap < iou_threshold).to(scores)
        elif method == 1:
            decay = torch.where(overlap >= iou_threshold, 1 - overlap, 1)
        else:
            decay = torch.exp(-overlap**2 / sigma)
        scores = torch.where(alive, scores * decay, scores)
        alive &= scores >= min_score
    return torch.tensor(kept, dtype=torch.long)


def nms_match(dets: Tensor, *, iou_threshold: float) -> List[List[int]]:
    """Groups of indices: a kept box of ``dets (N, 5)``, then those it suppresses."""
    order = dets[:, 4].argsort(descending=True)
    iou = torchvision.ops.box_iou(dets[order, :4], dets[order, :4])
    free = torch.ones(len(order), dtype=torch.bool)
    groups = []
    for i in range(len(order)):
        if free[i]:
            members = free & (iou[i] >= iou_threshold)
            members[:i] = False
            members[i] = True
            free &= ~members
            groups.append(order[members].tolist())
    return groups


# -------------------------------------------------------------------- pooling


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, *, aligned_height: int, aligned_width: int,
                      spatial_scale: float, sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    _require_average(pool_mode)
    output.copy_(
        torchvision.ops.roi_align(input, rois, (aligned_height, aligned_width), spatial_scale,
                                  sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_input: Tensor, *, aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int, pool_mode: int,
                       aligned: bool) -> None:
    _require_average(pool_mode)
    # Linear in its input: the gradient is the same at any input, so at zeros.
    _backward(
        lambda x: torchvision.ops.roi_align(x, rois, (aligned_height, aligned_width),
                                            spatial_scale, sampling_ratio, aligned),
        [torch.zeros_like(grad_input)], [grad_input], grad_output)


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        __getattr__('roi_align with max pooling')()


def roi_pool_forward(input: Tensor, rois: Tensor, output: Tensor, argmax: Tensor, *,
                     pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
    pooled, index = torch.ops.torchvision.roi_pool(input, rois, spatial_scale, pooled_height,
                                                   pooled_width)
    output.copy_(pooled)
    argmax.copy_(index)


def roi_pool_backward(grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor, *,
                      pooled_height: int, pooled_width: int, spatial_scale: float) -> None:
    grad_input.copy_(
        torch.ops.torchvision._roi_pool_backward(grad_output, rois, argmax, spatial_scale,
                                                 pooled_height, pooled_width, *grad_input.shape))


# ----------------------------------------------------- deformable convolution


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor,
                        columns: Tensor, ones: Tensor, **shape: int) -> None:
    output.copy_(_deform_conv(shape)(input, offset, weight))


def deform_conv_backward_input(input: Tensor, offset: Tensor, grad_output: Tensor,
                               grad_input: Tensor, grad_offset: Tensor, weight: Tensor,
                               columns: Tensor, **shape: int) -> None:
    _backward(lambda x, o: _deform_conv(shape)(x, o, weight), [input, offset],
              [grad_input, grad_offset], grad_output)


def deform_conv_backward_parameters(input: Tensor, offset: Tensor, grad_output: Tensor,
                                    grad_weight: Tensor, columns: Tensor, ones: Tensor, *,
                                    scale: float, **shape: int) -> None:
    weight = torch.zeros_like(grad_weight)  # linear in the weight
    _backward(lambda w: _deform_conv(shape)(input, offset, w), [weight], [grad_weight],
              grad_output * scale)


def _deform_conv(shape: dict) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    stride, padding = (shape['dH'], shape['dW']), (shape['padH'], shape['padW'])
    dilation = (shape['dilationH'], shape['dilationW'])
    return lambda x, offset, weight: torchvision.ops.deform_conv2d(
        x, offset, weight, stride=stride, padding=padding, dilation=dilation)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
                                  offset: Tensor, mask: Tensor, output: Tensor, columns: Tensor,
                                  **shape: int) -> None:
    output.copy_(_modulated_deform_conv(shape)(input, weight, bias, offset, mask))


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor,
                                   offset: Tensor, mask: Tensor, columns: Tensor,
                                   grad_input: Tensor, grad_weight: Tensor, grad_bias: Tensor,
                                   grad_offset: Tensor, grad_mask: Tensor, grad_output: Tensor,
                                   **shape: int) -> None:
    inputs = [input, weight, bias, offset, mask]
    grads = [grad_input, grad_weight, grad_bias, grad_offset, grad_mask]
    _backward(_modulated_deform_conv(shape), inputs, grads, grad_output)


def _modulated_deform_conv(shape: dict) -> Callable[..., Tensor]:
    stride = (shape['stride_h'], shape['stride_w'])
    padding = (shape['pad_h'], shape['pad_w'])
    dilation = (shape['dilation_h'], shape['dilation_w'])

    def run(x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        bias = bias if shape['with_bias'] else None
        return torchvision.ops.deform_conv2d(x, offset, weight, bias, stride, padding, dilation,
                                             mask)

    return run


# --------------------------------------------------------------------- losses


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *,
                               gamma: float, alpha: float) -> None:
    output.copy_(_sigmoid_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                *, gamma: float, alpha: float) -> None:
    _backward(lambda x: _sigmoid_focal_loss(x, target, weight, gamma, alpha).to(x), [input],
              [grad_input], torch.ones_like(input))


def _sigmoid_focal_loss(x: Tensor, target: Tensor, weight: Tensor, gamma: float,
                        alpha: float) -> Tensor:
    num_classes = x.size(1)
    y = F.one_hot(target, num_classes + 1)[:, :num_classes].float()
    loss = torchvision.ops.sigmoid_focal_loss(x.float(), y, alpha, gamma)
    if weight.numel():  # one weight per class, taken at the target; background counts once
        row = torch.cat([weight.float(), weight.new_ones(1).float()])[target]
        loss = loss * row.unsqueeze(1)
    return loss


# ------------------------------------------------------- deformable attention


def ms_deform_attn_forward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                           sampling_locations: Tensor, attention_weights: Tensor, *,
                           im2col_step: int) -> Tensor:
    return _deformable_attention(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                            sampling_locations: Tensor, attention_weights: Tensor,
                            grad_output: Tensor, grad_value: Tensor, grad_sampling_loc: Tensor,
                            grad_attn_weight: Tensor, *, im2col_step: int) -> None:
    _backward(lambda v, s, a: _deformable_attention(v, spatial_shapes, s, a),
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


def _backward(function: Callable[..., Tensor], inputs: Sequence[Tensor], grads: Sequence[Tensor],
              grad_output: Tensor) -> None:
    """Recompute ``function(*inputs)`` and write its gradients into ``grads``."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    found = torch.autograd.grad(output, leaves, grad_output, allow_unused=True)
    for grad, value in zip(grads, found, strict=True):
        if value is not None:
            grad.copy_(value)
