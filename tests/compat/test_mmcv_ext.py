"""The stand-in operators, called through mmcv's own Python layer."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('mmcv._ext').origin.endswith('.so'),
    reason='a compiled mmcv is installed, so there is no stand-in to test')


def rois(n=6, size=40):
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(n, 2, generator=generator) * size / 2
    extent = torch.rand(n, 2, generator=generator) * size / 2 + 2
    index = torch.randint(0, 2, (n, 1), generator=generator).float()
    return torch.cat([index, corner, corner + extent], 1)


def check_same(ours, theirs, inputs):
    """Values and gradients under a random upstream gradient."""
    results = []
    for function in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
        results.append([out.detach(), *torch.autograd.grad(out, leaves, upstream)])
    for a, b in zip(*results, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b)


def random_boxes(n=80):
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(n, 2, generator=generator) * 60
    return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * 30 + 1], 1), \
        torch.rand(n, generator=generator)


def test_nms_is_torchvisions():
    from mmcv.ops import batched_nms, nms
    boxes, scores = random_boxes()
    dets, kept = nms(boxes, scores, 0.4)
    expected = torchvision.ops.nms(boxes, scores, 0.4)
    assert 1 < len(kept) < len(boxes) and torch.equal(kept, expected)
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[expected])
    classes = torch.arange(len(boxes)) % 3
    _, kept = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.4))
    assert torch.equal(kept, torchvision.ops.batched_nms(boxes, scores, classes, 0.4))


def test_nms_offset_counts_pixels_inclusively():
    from mmcv.ops import nms
    boxes, scores = torch.tensor([[0.0, 0, 9, 9], [0, 5, 9, 14]]), torch.tensor([0.9, 0.8])
    # 10 x 10 px boxes sharing 5 rows: IoU 50 / 150; without the offset 36 / 126
    assert len(nms(boxes, scores, 0.33, offset=1)[1]) == 1
    assert len(nms(boxes, scores, 0.33, offset=0)[1]) == 2


def soft_nms_by_hand(boxes, scores, method, threshold=0.3, sigma=0.5, min_score=0.05):
    boxes, scores, left, kept = boxes.numpy(), scores.numpy().copy(), list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        kept.append((best, scores[best]))
        for i in list(left):
            a, b = boxes[best], boxes[i]
            inter = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
            iou = inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter)
            scores[i] *= {'naive': float(iou < threshold),
                          'linear': 1 - iou if iou >= threshold else 1.0,
                          'gaussian': np.exp(-iou**2 / sigma)}[method]
            if scores[i] < min_score:
                left.remove(i)
    return kept


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_decays_scores_as_its_paper_says(method):
    from mmcv.ops import soft_nms
    boxes, scores = random_boxes()
    dets, kept = soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.05, method=method)
    expected = soft_nms_by_hand(boxes, scores, method)
    assert kept.tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(dets[:, 4], [s for _, s in expected], rtol=1e-5)
    torch.testing.assert_close(dets[:, :4], boxes[kept])


def test_nms_match_groups_each_box_once_with_the_box_that_suppresses_it():
    from mmcv.ops import nms_match
    boxes, scores = random_boxes()
    groups = nms_match(torch.cat([boxes, scores[:, None]], 1), 0.4)
    assert sorted(i for g in groups for i in g.tolist()) == list(range(len(boxes)))
    kept = torch.stack([g[0] for g in groups])
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.4))
    for group in groups:
        iou = torchvision.ops.box_iou(boxes[group[:1]], boxes[group[1:]])
        assert (iou >= 0.4).all()


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_is_torchvisions(aligned, sampling_ratio):
    from mmcv.ops import roi_align
    boxes = rois()
    check_same(lambda x: roi_align(x, boxes, (3, 4), 0.5, sampling_ratio, 'avg', aligned),
               lambda x: torchvision.ops.roi_align(x, boxes, (3, 4), 0.5, sampling_ratio, aligned),
               [torch.randn(2, 3, 20, 20)])


def test_roi_pool_is_torchvisions():
    from mmcv.ops import roi_pool
    boxes = rois()
    check_same(lambda x: roi_pool(x, boxes, (3, 4), 0.5),
               lambda x: torchvision.ops.roi_pool(x, boxes, (3, 4), 0.5),
               [torch.randn(2, 3, 20, 20)])


@pytest.mark.parametrize('groups, deform_groups', [(1, 1), (2, 1), (1, 2)])
def test_deform_conv_is_torchvisions(groups, deform_groups):
    from mmcv.ops import deform_conv2d
    inputs = [torch.randn(2, 4, 12, 11), torch.randn(2, 18 * deform_groups, 6, 6),
              torch.randn(6, 4 // groups, 3, 3)]
    check_same(
        lambda x, o, w: deform_conv2d(x, o, w, 2, 1, 1, groups, deform_groups),
        lambda x, o, w: torchvision.ops.deform_conv2d(x, o, w, stride=2, padding=1), inputs)


@pytest.mark.parametrize('bias', [True, False])
def test_modulated_deform_conv_is_torchvisions(bias):
    from mmcv.ops import modulated_deform_conv2d
    inputs = [torch.randn(2, 4, 12, 11), torch.randn(2, 18, 6, 6), torch.rand(2, 9, 6, 6),
              torch.randn(6, 4, 3, 3), *([torch.randn(6)] if bias else [])]
    check_same(
        lambda x, o, m, w, b=None: modulated_deform_conv2d(x, o, m, w, b, 2, 1, 1, 1, 1),
        lambda x, o, m, w, b=None: torchvision.ops.deform_conv2d(x, o, w, b, 2, 1, 1, m), inputs)


def test_sigmoid_focal_loss_is_torchvisions():
    from mmcv.ops import sigmoid_focal_loss
    labels = torch.arange(40) % 6  # 5 is background
    y = torch.nn.functional.one_hot(labels, 6)[:, :5].float()
    check_same(lambda x: sigmoid_focal_loss(x, labels, 2.0, 0.25, None, 'sum'),
               lambda x: torchvision.ops.sigmoid_focal_loss(x, y, 0.25, 2.0, 'sum'),
               [torch.randn(40, 5) * 3])


def test_deformable_attention_is_mmcvs_definition():
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )
    shapes = torch.tensor([[6, 5], [3, 2]])
    start = torch.tensor([0, 30])
    inputs = [torch.randn(2, 36, 4, 8), torch.rand(2, 7, 4, 2, 3, 2) * 1.2 - 0.1,
              torch.rand(2, 7, 4, 2, 3)]
    check_same(
        lambda v, s, a: MultiScaleDeformableAttnFunction.apply(v, shapes, start, s, a, 64),
        lambda v, s, a: multi_scale_deformable_attn_pytorch(v, shapes, s, a), inputs)


@pytest.mark.parametrize('call', [
    lambda ops: ops.box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5)),
    lambda ops: ops.roi_align(torch.rand(1, 1, 8, 8), rois(), (2, 2), 1.0, 0, 'max', True),
])
def test_an_operator_without_a_stand_in_says_what_to_install(call):
    import mmcv.ops
    with pytest.raises(NotImplementedError, match=r"operator '.+' needs an mmcv with compiled"):
        call(mmcv.ops)


def test_a_compiled_mmcv_is_left_alone(tmp_path):
    """A module that Python finds by itself wins over the stand-in, whatever the import order."""
    (tmp_path / 'fake.py').write_text('''
import sys, types, asl_det
from importlib.machinery import ModuleSpec
class Compiled:  # as the path finder would find mmcv/_ext.so
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'mmcv._ext':
            return ModuleSpec(name, Compiled)
    @staticmethod
    def create_module(spec):
        return types.ModuleType(spec.name)
    @staticmethod
    def exec_module(module):
        module.compiled = True
sys.meta_path.insert(len(sys.meta_path) - 1, Compiled)
import mmcv._ext
print(mmcv._ext.compiled)
''')
    out = subprocess.run([sys.executable, str(tmp_path / 'fake.py')], capture_output=True,
                         text=True, check=True)
    assert out.stdout.strip() == 'True'
