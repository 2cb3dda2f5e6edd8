"""Pictures of boxes: what they show, and where."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image

from asl_det.registry import VISUALIZERS

BLACK = np.zeros((100, 160, 3), np.uint8)
COLOURS = [(255, 0, 0), (0, 255, 0)]


@pytest.fixture
def visualizer():
    init_default_scope('mmdet')
    made = VISUALIZERS.get('BoxVisualizer')()
    made.dataset_meta = dict(classes=('cat', 'a$b_c'), palette=COLOURS)
    return made


def sample(truth=None, found=None):
    from mmdet.structures import DetDataSample
    made = DetDataSample()
    if truth is not None:
        made.gt_instances = InstanceData(bboxes=torch.tensor(truth, dtype=torch.float),
                                         labels=torch.arange(len(truth)))
    if found is not None:
        made.pred_instances = InstanceData(
            bboxes=torch.tensor(found, dtype=torch.float).reshape(-1, 4),
            labels=torch.arange(len(found)), scores=torch.tensor([0.9, 0.4][:len(found)]))
    return made


def drawn(visualizer, *args, image=BLACK, **kwargs):
    return visualizer.drawing(image, sample(*args), **kwargs)


def test_small_images_are_enlarged_and_large_ones_are_not(visualizer):
    assert drawn(visualizer, None, [[10, 10, 50, 50]]).shape == (300, 480, 3)
    large = np.zeros((300, 400, 3), np.uint8)
    assert drawn(visualizer, None, [[10, 10, 50, 50]], image=large).shape == (300, 400, 3)
    assert drawn(visualizer, None, []).shape == (300, 480, 3)


@pytest.mark.parametrize('box', [[50, 40, 90, 70], [0, 0, 40, 30], [120, 70, 160, 100],
                                 [0, 0, 30, 100]])
def test_a_label_stands_beside_its_box_and_in_the_picture(visualizer, box):
    picture = drawn(visualizer, None, [box])
    x1, y1, x2, y2 = (3 * v for v in box)
    inside = picture[y1 + 5:y2 - 5, x1 + 5:x2 - 5]
    assert not inside.any()
    red = (picture == (255, 0, 0)).all(2)
    red[max(0, y1 - 3):y2 + 3, max(0, x1 - 3):x2 + 3] = False
    rows, columns = np.nonzero(red)
    assert len(rows) > 200 and rows.max() - rows.min() >= 10


def test_labels_of_neighbours_do_not_cover_each_other(visualizer):
    picture = drawn(visualizer, None, [[20, 40, 60, 70], [22, 40, 62, 70]])
    for colour in COLOURS:
        assert (picture == colour).all(2).sum() > 900


def test_truth_and_prediction_have_a_caption_each(visualizer):
    boxes = [[50, 40, 90, 70]]
    both = drawn(visualizer, boxes, boxes)
    height = both.shape[0] - 300
    assert both.shape[1] == 2 * 480 + 6 and height > 15
    left, right = both[:height, :480], both[:height, -480:]
    assert (left < 128).any() and (right < 128).any() and (left != right).any()
    one = drawn(visualizer, boxes, boxes, draw_pred=False)
    assert one.shape == (300, 480, 3)
    assert (both[height:, :480] == one).all()
    assert drawn(visualizer, None, boxes).shape == (300, 480, 3)


def test_boxes_from_the_threshold_on_are_drawn(visualizer):
    boxes = [[20, 40, 60, 70], [90, 40, 130, 70]]
    green = [(drawn(visualizer, None, boxes, threshold=t) == COLOURS[1]).all(2).any()
             for t in (0.3, 0.5)]
    assert green == [True, False]


def test_a_dark_colour_has_a_light_outline(visualizer):
    visualizer.dataset_meta = dict(classes=('cat',), palette=[(0, 0, 60)])
    assert (drawn(visualizer, None, [[50, 40, 90, 70]])[205:212, 200:220] > 200).all(2).any()


@pytest.mark.parametrize('boxes', [True, False])
def test_masks_are_drawn_with_the_boxes_or_make_them(visualizer, boxes):
    masks = torch.zeros(1, 100, 160, dtype=torch.bool)
    masks[0, 40:70, 50:90] = True
    made = sample(None, [[50, 40, 90, 70] if boxes else [0, 0, 0, 0]])
    made.pred_instances.masks = masks
    picture = visualizer.drawing(BLACK, made)
    assert picture[150, 200, 0] > 100 and not picture[250, 400].any()
    assert (picture[110:116, 155:200] == COLOURS[0]).all(2).sum() > 100  # the label


def test_what_is_drawn_goes_to_a_file_or_to_the_backends(visualizer, tmp_path):
    both = sample([[50, 40, 90, 70]], [[50, 40, 90, 70]])
    visualizer.add_datasample('a', BLACK, both, out_file=str(tmp_path / 'a.png'))
    written = np.asarray(Image.open(tmp_path / 'a.png'))
    assert (written == visualizer.drawing(BLACK, both)).all()
    assert (tmp_path / 'a.png').stat().st_size < 20_000
    kept = type(visualizer)(save_dir=str(tmp_path), vis_backends=[dict(type='LocalVisBackend')])
    kept.dataset_meta = visualizer.dataset_meta
    kept.add_datasample('a', BLACK, both, step=3)
    assert (np.asarray(Image.open(tmp_path / 'vis_data/vis_image/a_3.png')) == written).all()


def test_a_segmentation_is_drawn_as_mmdet_does(visualizer):
    from mmengine.structures import PixelData
    made = sample(None, [[50, 40, 90, 70]])
    made.pred_sem_seg = PixelData(sem_seg=torch.zeros(1, 100, 160, dtype=torch.long))
    visualizer.add_datasample('a', BLACK, made)
    assert visualizer.get_image().shape == (100, 2 * 160, 3)
