"""Boxes that are taken away from annotations, images that are held out."""

import json
import random

import pytest
from command_line import run_command

from asl_det.data.coco_json import hide_boxes, hold_out, write_hidden
from asl_det.data.digits import make_digits
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


def a_json(path, images=20):
    path.write_text(json.dumps(dict(
        images=[dict(id=7 * i, file_name=f'{i}.jpg') for i in range(images)],
        categories=[dict(id=1, name='a')],
        annotations=[dict(id=i, image_id=7 * (i % images), bbox=[0, 0, 1, 1]) for i in range(50)])))
    return path


def test_images_are_held_out_with_their_boxes(tmp_path, capsys):
    source, rest, held = a_json(tmp_path / 'a.json'), tmp_path / 'b.json', tmp_path / 'c.json'
    assert run_command('data hold-out', source, rest, held, '--share', 0.25, '--seed', 2) is None
    assert capsys.readouterr().out == f'{rest}: 15 images, {held}: 5 images\n'
    parts = [json.loads(path.read_text()) for path in (rest, held)]
    found = [{image['id'] for image in part['images']} for part in parts]
    assert not found[0] & found[1] and len(found[0] | found[1]) == 20
    for part, images in zip(parts, found, strict=True):
        assert {a['image_id'] for a in part['annotations']} == images
        assert part['categories'] == [dict(id=1, name='a')]
    assert sum(len(part['annotations']) for part in parts) == 50
    assert parts[1]['info']['hold_out'] == dict(source='a.json', share=0.25, seed=2, held_out=True)
    hold_out(source, rest, tmp_path / 'd.json', 0.5, seed=2)
    assert found[1] < {i['id'] for i in json.loads((tmp_path / 'd.json').read_text())['images']}


@pytest.mark.parametrize('share', [0, 1, 0.01, 0.99, -1, True, 'x'])
def test_a_share_that_leaves_a_file_empty_is_refused_and_nothing_is_written(tmp_path, share):
    source = a_json(tmp_path / 'a.json')
    with pytest.raises(UserError, match='leaves images in both'):
        hold_out(source, tmp_path / 'b.json', tmp_path / 'c.json', share)
    with pytest.raises(UserError, match='c.json is given twice'):
        hold_out(source, tmp_path / 'c.json', tmp_path / 'c.json', 0.5)
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']
