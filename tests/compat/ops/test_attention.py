import torch
from comparison import check_same
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)


def test_deformable_attention_is_mmcvs_definition():
    shapes = torch.tensor([[6, 5], [3, 2]])
    start = torch.tensor([0, 30])
    inputs = [torch.randn(2, 36, 4, 8), torch.rand(2, 7, 4, 2, 3, 2) * 1.2 - 0.1,
              torch.rand(2, 7, 4, 2, 3)]
    check_same(
        lambda v, s, a: MultiScaleDeformableAttnFunction.apply(v, shapes, start, s, a, 64),
        lambda v, s, a: multi_scale_deformable_attn_pytorch(v, shapes, s, a), inputs)
