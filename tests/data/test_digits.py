import json
import re

import cv2
import numpy as np
import pytest
from command_line import run_command
from pycocotools.coco import COCO

from asl_det.commands.digits import NEXT
from asl_det.data.digits import PRESETS, draw_canvas, load_scans, make_digits
from asl_det.engine import load_config
from asl_det.errors import UserError


def make(root, **kwargs):
    return make_digits(root, **dict(dict(num_train=8, num_val=4), **kwargs))


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def test_files_are_coco_json_and_images_of_the_stated_size(tmp_path):
    make(tmp_path, size=96, digit_size=(20, 40))
    for split, count in (('train', 8), ('val', 4)):
        coco = COCO(str(tmp_path / f'instances_{split}.json'))
        assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list('0123456789')
        assert len(coco.imgs) == count and len(coco.anns) >= count
        for image in coco.imgs.values():
            pixels = cv2.imread(str(tmp_path / split / image['file_name']))
            assert pixels.shape == (96, 96, 3) and pixels.std() > 3
        for ann in coco.anns.values():
            x, y, w, h = ann['bbox']
            assert x >= 0 and y >= 0 and x + w <= 96 and y + h <= 96
            assert 20 <= h <= 40 and ann['area'] == w * h


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        make(tmp_path / name, seed=seed)
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')
    assert contents(tmp_path / 'a') != contents(tmp_path / 'c')


def test_it_is_written_once_and_reused(tmp_path):
    assert make(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    assert not make(tmp_path)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}


def test_other_settings_for_the_same_folder_are_refused(tmp_path):
    make(tmp_path)
    with pytest.raises(UserError, match='seed=0, asked 5'):
        make(tmp_path, seed=5)


def test_an_interrupted_run_is_made_again(tmp_path):
    make(tmp_path)
    whole = contents(tmp_path)
    (tmp_path / 'instances_train.json').rename(tmp_path / 'instances_train.partial')
    (tmp_path / 'train' / '000003.png').write_bytes(b'cut off')
    assert make(tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize('file, content, says', [
    ('train/000003.png', 'a photo', 'train holds files that are not of a digits data set'),
    ('val', 'a file', 'val holds files that are not'),
    ('instances_val.json', '{"images": []}', 'is there and is not of a digits data set'),
    ('instances_train.json', '{"info": {"description": "COCO"}}', 'is not of a digits data set'),
    ('instances_train.json', '[]', 'is not of a digits data set'),
    ('instances_train.json', '{"info": ', 'cut off')])
def test_data_of_others_is_never_written_over(tmp_path, file, content, says):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=says):
        make(tmp_path)
    assert contents(tmp_path) == before


def test_splits_share_no_scan():
    train, val = (load_scans(split)[0].reshape(-1, 64) for split in ('train', 'val'))
    assert len(train) + len(val) == 1797
    distances = ((train[:, None] - val[None, ::8])**2).sum(-1)
    assert (distances == 0).sum() == 0


def test_tuning_sets_share_no_scan_with_each_other_or_the_validation_set(tmp_path):
    train, val = (load_scans(split, tuning=True)[0].reshape(-1, 64) for split in ('train', 'val'))
    final = load_scans('val')[0].reshape(-1, 64)
    assert len(train) + len(val) == len(load_scans('train')[0]) and len(val) > 250
    for some, others in ((train, val), (train, final), (val, final)):
        assert ((some[::8, None] - others[None, ::4])**2).sum(-1).min() > 0
    make(tmp_path, tuning=True)
    with pytest.raises(UserError, match='tuning=True, asked None'):
        make(tmp_path)


def test_a_box_holds_its_digit():
    scans, labels = load_scans('train')
    rng = np.random.default_rng(0)
    settings = dict(size=128, digits_per_image=(1, 1), digit_size=(30, 60), max_overlap=0.0,
                    clutter=0)
    for _ in range(20):
        image, boxes, classes = draw_canvas(rng, scans, labels, **settings)
        (x, y, w, h), = boxes
        inside = image[y:y + h, x:x + w].max()
        image[y:y + h, x:x + w] = 0
        assert inside > image.max() + 20  # strokes are brighter than all the rest


@pytest.mark.parametrize('limit', [0.0, 0.4])
def test_overlap_stays_under_its_limit(limit):
    scans, labels = load_scans('train')
    settings = dict(size=80, digits_per_image=(8, 8), digit_size=(20, 30), max_overlap=limit,
                    clutter=0)
    largest = 0
    for seed in range(20):
        _, boxes, _ = draw_canvas(np.random.default_rng(seed), scans, labels, **settings)
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        extent = np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None)
        areas = boxes[:, 2] * boxes[:, 3]
        shared = extent.prod(-1) / np.minimum(areas[:, None], areas)
        np.fill_diagonal(shared, 0)
        largest = max(largest, shared.max())
    assert largest <= limit and (limit == 0 or largest > 0.2)


@pytest.mark.parametrize('kwargs, message', [
    (dict(digit_size=(20, 500)), 'digit_size'), (dict(digits_per_image=(0, 3)), 'digits_per_image'),
    (dict(max_overlap=2), 'max_overlap=2'), (dict(num_train=0), 'num_train=0'),
    (dict(clutter=-1), 'clutter=-1')])
def test_settings_out_of_range_are_refused(tmp_path, kwargs, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path, **kwargs)


def test_the_command_ends_with_one_line_for_wrong_settings(tmp_path):
    assert run_command('data digits', tmp_path, '--num-val', 0) == (
        'error: num_train=1000, num_val=0: expected at least 1 each')


@pytest.mark.parametrize('preset', list(PRESETS))
def test_the_command_says_what_is_where_and_how_to_go_on(tmp_path, monkeypatch, capsys, preset):
    monkeypatch.chdir(tmp_path)
    few = '--preset', preset, '--num-train', 3, '--num-val', 2
    for root, place in (((), ''), (('a b',), " --data-root 'a b'")):
        for ended in (r'made in [\d.]+ s', 'already there'):
            assert run_command('data digits', *root, *few) is None
            said, then = capsys.readouterr().out.splitlines()
            name = root[0] if root else PRESETS[preset]['root']
            assert re.fullmatch(
                f'{name}: 3 images to train on, 2 to validate on, {ended}', said)
            assert then == f'next: asl-det train {NEXT[preset]}{place}'
    cfg = load_config(NEXT[preset])
    assert PRESETS[preset]['root'] in str(cfg.train_dataloader)


def test_json_states_how_it_was_made(tmp_path):
    make(tmp_path, seed=9)
    info = json.loads((tmp_path / 'instances_val.json').read_text())['info']
    assert info['seed'] == 9 and info['split'] == 'val' and info['images'] == 4


def test_hidden_labels_are_missing_from_training_and_nothing_else_changes(tmp_path):
    options = dict(num_train=60, num_val=10, size=64, digits_per_image=(1, 3), digit_size=(20, 32))
    make_digits(tmp_path / 'all', **options)
    make_digits(tmp_path / 'half', **options, hide_labels=0.5)
    known, hidden = (json.loads((tmp_path / name / 'instances_train.json').read_text())
                     for name in ('all', 'half'))
    labels = [{(a['image_id'], a['category_id']) for a in d['annotations']}
              for d in (known, hidden)]
    assert labels[1] < labels[0] and 0.35 < len(labels[1]) / len(labels[0]) < 0.65
    assert len(hidden['images']) == 60
    for name in ('train/000003.png', 'val/000003.png'):
        assert (tmp_path / 'all' / name).read_bytes() == (tmp_path / 'half' / name).read_bytes()
    assert (tmp_path / 'all/instances_val.json').read_text() == (
        tmp_path / 'half/instances_val.json').read_text()
    assert not make_digits(tmp_path / 'half', **options, hide_labels=0.5)
    with pytest.raises(UserError, match='hide_labels=0.5, asked None'):
        make_digits(tmp_path / 'half', **options)
    with pytest.raises(UserError, match='hide_labels=1.0'):
        make_digits(tmp_path / 'x', **options, hide_labels=1.0)
