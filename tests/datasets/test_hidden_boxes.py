"""Boxes that are taken away from annotations."""

import json
import random

import pytest

from asl_det.datasets.digits import make_digits
from asl_det.datasets.hidden_boxes import hide_boxes, write_hidden
from asl_det.errors import UserError

BOXES = [dict(id=i, image_id=i // 4, bbox=[0, 0, 1, 1]) for i in range(3, 203)]


def ids(annotations):
    return {a['id'] for a in annotations}


def test_the_share_is_exact_and_a_larger_one_hides_the_same_and_more():
    left = {share: hide_boxes(BOXES, share, seed=1) for share in (0, 0.2, 0.4)}
    assert {share: len(boxes) for share, boxes in left.items()} == {0: 200, 0.2: 160, 0.4: 120}
    assert ids(left[0.4]) < ids(left[0.2]) < ids(left[0])
    assert len({b['image_id'] for b in left[0.4]}) > 45  # not whole images


def test_the_seed_and_the_ids_decide_and_not_the_order():
    shuffled = random.Random(0).sample(BOXES, len(BOXES))
    assert ids(hide_boxes(shuffled, 0.4, seed=1)) == ids(hide_boxes(BOXES, 0.4, seed=1))
    assert ids(hide_boxes(BOXES, 0.4, seed=2)) != ids(hide_boxes(BOXES, 0.4, seed=1))


def test_crowd_regions_stay():
    crowd = [dict(id=1000 + i, iscrowd=1) for i in range(50)]
    left = hide_boxes([*BOXES, *crowd], 0.5)
    assert len(left) == 150 and ids(crowd) <= ids(left)


def test_a_file_keeps_its_images_and_says_what_was_done(tmp_path):
    source, target = tmp_path / 'a.json', tmp_path / 'b.json'
    source.write_text(json.dumps(dict(info=dict(year=1), images=[dict(id=0)], categories=[],
                                      annotations=BOXES)))
    assert write_hidden(source, target, 0.25, seed=3) == 50
    written = json.loads(target.read_text())
    assert len(written['annotations']) == 150 and written['images'] == [dict(id=0)]
    assert written['info'] == dict(year=1, hide_boxes=dict(source='a.json', share=0.25, seed=3))
    with pytest.raises(UserError, match='is the file to read'):
        write_hidden(source, source, 0.25)
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(UserError, match='list.json can not be read as COCO json'):
        write_hidden(tmp_path / 'list.json', target, 0.25)


@pytest.mark.parametrize('share', [1, -0.1, True, 'x'])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(UserError, match='expected a share'):
        hide_boxes(BOXES, share)
    with pytest.raises(UserError, match='stands twice'):
        hide_boxes([BOXES[0], BOXES[0]], 0.1)


def test_digits_with_hidden_boxes_have_the_same_images_and_validation_set(tmp_path):
    options = dict(num_train=10, num_val=3, size=64, digit_size=(20, 32), seed=5)
    make_digits(tmp_path / 'all', **options)
    make_digits(tmp_path / 'hidden', **options, hide_boxes=0.4)
    whole, hidden = (json.loads((tmp_path / name / 'instances_train.json').read_text())
                     for name in ('all', 'hidden'))
    assert hidden['annotations'] == hide_boxes(whole['annotations'], 0.4, seed=5)
    assert hidden['images'] == whole['images'] and hidden['info']['hide_boxes'] == 0.4
    for name in ('instances_val.json', 'train/000000.png'):
        assert (tmp_path / 'all' / name).read_bytes() == (tmp_path / 'hidden' / name).read_bytes()
    with pytest.raises(UserError, match='expected a share'):
        make_digits(tmp_path / 'x', **options, hide_boxes=1.0)
    assert not (tmp_path / 'x').exists()
