"""What a COCO json lacks is filled in where it is certain, into a copy."""

import json

import numpy as np
import pytest
from command_line import run_command
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from PIL import Image

from asl_det.data.complete_coco import complete_coco
from asl_det.errors import UserError
from asl_det.preflight.coco_annotations import check_coco_file

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


@pytest.fixture
def bare(tmp_path):
    """What labelling tools write at the least; one image is turned by EXIF."""
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new('RGB', (60, 40)).save(tmp_path / 'a.jpg', exif=exif)
    Image.new('RGB', (60, 40)).save(tmp_path / 'b.jpg')
    content = dict(
        images=[dict(id=1, file_name='a.jpg'), dict(id=2, file_name='b.jpg')],
        annotations=[dict(image_id=1, category_id=1, bbox=[5, 5, 20, 30]),
                     dict(image_id=2, category_id=1, bbox=[5, 5, 20, 30], segmentation=SQUARE),
                     dict(image_id=2, category_id=1, bbox=[5, 5, 20, 30], area=7, iscrowd=1)],
        categories=[dict(id=1, name='cat')])
    path = tmp_path / 'bare.json'
    path.write_text(json.dumps(content))
    return path


def test_the_copy_is_complete_and_the_file_stays(bare, tmp_path):
    before = bare.read_bytes()
    target = tmp_path / 'new/whole.json'
    filled = complete_coco(bare, target, tmp_path)
    assert filled == {'width and height': 2, 'id': 3, 'iscrowd': 2, 'area': 2}
    assert bare.read_bytes() == before
    content = json.loads(target.read_text())
    assert [(i['width'], i['height']) for i in content['images']] == [(40, 60), (60, 40)]
    assert [(a['id'], a['area'], a['iscrowd']) for a in content['annotations']] == [
        (1, 600, 0), (2, 400, 0), (3, 7, 1)]
    for split in ('train', 'val'):
        assert list(check_coco_file(target, ('cat',), split=split)) == []
    assert any(f.error for f in check_coco_file(bare, ('cat',)))


def test_mmdet_trains_and_evaluates_with_the_copy_and_not_with_the_file(bare, tmp_path):
    complete_coco(bare, tmp_path / 'whole.json', tmp_path)
    arguments = dict(metainfo=dict(classes=('cat',)), pipeline=[], data_prefix=dict(img=''))
    with pytest.raises(KeyError):
        CocoDataset(ann_file=str(bare), **arguments)
    assert len(CocoDataset(ann_file=str(tmp_path / 'whole.json'), **arguments)) == 2
    metric = CocoMetric(ann_file=str(tmp_path / 'whole.json'))
    metric.dataset_meta = dict(classes=('cat',))
    box = dict(bboxes=np.array([[5., 5, 25, 35]]), scores=np.array([.9]), labels=np.array([0]))
    metric.results = [({}, dict(img_id=i, **box)) for i in (1, 2)]
    assert metric.compute_metrics(metric.results)['bbox_mAP'] == pytest.approx(1, abs=1e-3)


def test_what_is_complete_stays_as_it_is(bare, tmp_path):
    complete_coco(bare, tmp_path / 'one.json', tmp_path)
    assert complete_coco(tmp_path / 'one.json', tmp_path / 'two.json') == {}
    assert (tmp_path / 'one.json').read_bytes() == (tmp_path / 'two.json').read_bytes()


def test_what_is_not_certain_is_an_error(bare, tmp_path):
    target = tmp_path / 'whole.json'
    with pytest.raises(UserError, match=r'images\[0\] has no width .* give the folder'):
        complete_coco(bare, target)
    with pytest.raises(UserError, match='a.jpg can not be read'):
        complete_coco(bare, target, tmp_path / 'other')
    content = json.loads(bare.read_text())
    del content['annotations'][0]['bbox']
    bare.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'annotations\[0\] has no area, and neither a box'):
        complete_coco(bare, target, tmp_path)
    for mask, says in ([[0, 0, 1e12, 0, 1e12, 1e12]], 'numbers up to'), ([[1, 2]], 'of 2 numbers'):
        content['annotations'][0]['segmentation'] = mask  # the first ends Python in pycocotools
        bare.write_text(json.dumps(content))
        with pytest.raises(UserError, match=rf'annotations\[0\] has no area, and its .*{says}'):
            complete_coco(bare, target, tmp_path)
    bare.write_text('[]')
    with pytest.raises(UserError, match='is no COCO json'):
        complete_coco(bare, target, tmp_path)
    with pytest.raises(UserError, match='exists: give a new file'):
        complete_coco(bare, bare)
    assert not target.exists()


def test_the_command_says_what_it_filled(bare, tmp_path, capsys):
    target = str(tmp_path / 'c.json')
    assert run_command('data complete', bare, target, '--images', tmp_path) is None
    assert f'{target}: width and height filled in 2 times, id' in capsys.readouterr().out
    assert 'exists: give a new file' in run_command('data complete', bare, target)
