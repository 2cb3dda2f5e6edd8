"""Suppression and overlaps against plain-Python versions of what mmcv's C++ does."""

import numpy as np
import pytest
import torch
import torchvision
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms

f32 = np.float32


def random_boxes(n=80):
    corner = torch.rand(n, 2) * 60
    return torch.cat([corner, corner + torch.rand(n, 2) * 30 + 1], 1), torch.rand(n)


def boxes_without_area(n=60):
    """Whole numbers, many without area, many equal, many equal scores."""
    corner = torch.randint(0, 6, (n, 2)).float()
    boxes = torch.cat([corner, corner + torch.randint(0, 3, (n, 2)).float()], 1)
    return boxes, torch.randint(1, 9, (n,)) / 8


def iou(a, b, offset=0):
    """In single precision; 0 / 0 is NaN."""
    width, height = (max(f32(0), min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + f32(offset))
                     for k in (0, 1))
    inter = width * height
    area_a, area_b = ((x[2] - x[0] + f32(offset)) * (x[3] - x[1] + f32(offset)) for x in (a, b))
    with np.errstate(invalid='ignore'):
        return inter / (area_a + area_b - inter)


def mmcv_soft_nms(boxes, scores, method, offset=0, threshold=0.3, sigma=0.5, min_score=0.05):
    """Works in place: a box that is dropped is replaced by the last one."""
    rows = [[*box, score, k] for k, (box, score) in
            enumerate(zip(boxes.numpy(), scores.numpy(), strict=True))]
    i = 0
    while i < len(rows):
        best = i
        for k in range(i + 1, len(rows)):
            if rows[best][4] < rows[k][4]:
                best = k
        rows[i], rows[best] = rows[best], rows[i]
        k = i + 1
        while k < len(rows):
            overlap = iou(rows[i], rows[k], offset)
            factor = f32(1)
            if method == 'naive' and overlap >= f32(threshold):
                factor = f32(0)
            elif method == 'linear' and overlap >= f32(threshold):
                factor = 1 - overlap
            elif method == 'gaussian':
                factor = np.exp(-(overlap * overlap) / f32(sigma))
            rows[k][4] *= factor
            if rows[k][4] < f32(min_score):
                last = rows.pop()
                if k < len(rows):
                    rows[k] = last
            else:
                k += 1
        i += 1
    return [row[5] for row in rows], np.array([row[:5] for row in rows])


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('make', [random_boxes, boxes_without_area])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_is_mmcvs(method, make, offset):
    boxes, scores = make()
    dets, kept = soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    expected, rows = mmcv_soft_nms(boxes, scores, method, offset)
    assert kept.tolist() == expected and len(expected) > 1
    np.testing.assert_allclose(dets, rows, rtol=1e-5)
    assert len(expected) < len(boxes) or method == 'gaussian'


@pytest.mark.parametrize('method', ['naive', 'linear'])
def test_soft_nms_keeps_boxes_without_area(method):
    point = torch.tensor([3.0, 1, 3, 1]).repeat(4, 1)
    dets, kept = soft_nms(point, torch.tensor([0.2, 0.9, 0.4, 0.5]), 0.3, method=method)
    assert kept.tolist() == [1, 3, 2, 0]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.5, 0.4, 0.2]))


def test_soft_nms_of_nothing_is_nothing():
    dets, kept = soft_nms(torch.empty(0, 4), torch.empty(0))
    assert dets.shape == (0, 5) and kept.shape == (0,)


def test_nms_is_torchvisions():
    boxes, scores = random_boxes()
    dets, kept = nms(boxes, scores, 0.4)
    expected = torchvision.ops.nms(boxes, scores, 0.4)
    assert 1 < len(kept) < len(boxes) and torch.equal(kept, expected)
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[expected])
    classes = torch.arange(len(boxes)) % 3
    _, kept = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.4))
    assert torch.equal(kept, torchvision.ops.batched_nms(boxes, scores, classes, 0.4))


def test_nms_compares_in_single_precision():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 3]])  # IoU 30 / 100, not above 0.3
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.3)[1].tolist() == [0, 1]


def test_nms_offset_counts_pixels_inclusively():
    boxes, scores = torch.tensor([[0.0, 0, 9, 9], [0, 5, 9, 14]]), torch.tensor([0.9, 0.8])
    # 10 x 10 px boxes sharing 5 rows: IoU 50 / 150; without the offset 36 / 126
    assert len(nms(boxes, scores, 0.33, offset=1)[1]) == 1
    assert len(nms(boxes, scores, 0.33, offset=0)[1]) == 2


def test_nms_keeps_boxes_without_area():
    point = torch.tensor([3.0, 1, 3, 1]).repeat(3, 1)
    assert nms(point, torch.tensor([0.2, 0.9, 0.4]), 0.3)[1].tolist() == [1, 2, 0]


@pytest.mark.parametrize('make', [random_boxes, boxes_without_area])
def test_nms_match_groups_each_box_once_with_the_box_that_suppresses_it(make):
    boxes, scores = make()
    groups = [g.tolist() for g in nms_match(torch.cat([boxes, scores[:, None]], 1), 0.4)]
    left, expected = scores.argsort(descending=True).tolist(), []
    while left:
        first, *rest = left
        matched = [k for k in rest if iou(boxes[first].numpy(), boxes[k].numpy()) >= f32(0.4)]
        expected.append([first, *matched])
        left = [k for k in rest if k not in matched]
    assert groups == expected and len(groups) < len(boxes)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('make', [random_boxes, boxes_without_area])
def test_overlaps_are_those_of_mmcvs_python_version(make, mode, offset):
    from mmcv.ops.bbox import _bbox_overlaps_cpu
    first, second = make(30)[0], make(20)[0]
    ours = bbox_overlaps(first, second, mode, False, offset)
    theirs = _bbox_overlaps_cpu(first, second, mode, False, offset)
    assert theirs.nansum() > 0
    torch.testing.assert_close(ours, theirs, equal_nan=True)
    ours = bbox_overlaps(first[:20], second, mode, True, offset)
    torch.testing.assert_close(
        ours, _bbox_overlaps_cpu(first[:20], second, mode, True, offset), equal_nan=True)
