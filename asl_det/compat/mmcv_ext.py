"""A stand-in for ``mmcv._ext``, mmcv's module of compiled operators (see ``asl_det.compat.ops``).

An operator that is not here raises when it is called.
"""

# ruff: noqa: F401
from typing import Callable

from asl_det.compat.ops.boxes import (
    bbox_overlaps,
    deform_roi_pool_backward,
    deform_roi_pool_forward,
    nms,
    nms_match,
    roi_align_backward,
    roi_align_forward,
    roi_pool_backward,
    roi_pool_forward,
    softnms,
)
from asl_det.compat.ops.common import missing
from asl_det.compat.ops.layers import (
    carafe_backward,
    carafe_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    masked_col2im_forward,
    masked_im2col_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
    ms_deform_attn_backward,
    ms_deform_attn_forward,
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    sync_bn_backward_data,
    sync_bn_backward_param,
    sync_bn_forward_mean,
    sync_bn_forward_output,
    sync_bn_forward_var,
)


def __getattr__(name: str) -> Callable:
    if name.startswith('__'):
        raise AttributeError(name)
    return missing(name)


def get_compiler_version() -> str:
    """What ``mmcv.utils.collect_env`` reports where nothing was compiled."""
    return 'n/a'


def get_compiling_cuda_version() -> str:
    return 'n/a'
