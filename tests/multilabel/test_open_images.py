"""Open Images: verified labels, unknown ones, and sources that disagree."""

import csv

import numpy as np
import pytest
import torch
from mmengine.config import Config
from processes import python

from asl_det.errors import UserError
from asl_det.multilabel import OpenImagesMultiLabelDataset
from asl_det.registry import DATASETS, METRICS


def targets(dataset):
    return np.stack([dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))])


OPEN_IMAGES = ('ImageID,Source,LabelName,Confidence\n'
               'img1,verification,/m/01,1\n'
               'img1,verification,/m/02,0\n'
               'img2,verification,/m/03,1.0\n'
               'img2,verification,/m/99,1\n')


def open_images(tmp_path, rows='', **kwargs):
    (tmp_path / 'labels.csv').write_text(OPEN_IMAGES + rows)
    (tmp_path / 'trainable.txt').write_text('/m/03\n/m/01\n/m/02\n')
    (tmp_path / 'names.csv').write_text('/m/01,Cat\n/m/02,Dog\n/m/03,Cat\n/m/99,"Tree, old"\n')
    return OpenImagesMultiLabelDataset('labels.csv', data_root=str(tmp_path),
                                       data_prefix=dict(img_path='train'), **kwargs)


def test_open_images_labels_nobody_verified_are_unknown(tmp_path):
    data = open_images(tmp_path, trainable_classes='trainable.txt', class_descriptions='names.csv')
    assert data.classes == ('Cat (/m/03)', 'Cat (/m/01)', 'Dog')
    assert targets(data).tolist() == [[-1, 1, 0], [1, -1, -1]]
    assert data.get_data_info(0)['img_path'] == str(tmp_path / 'train/img1.jpg')


def test_open_images_classes_come_from_descriptions_or_metainfo_too(tmp_path):
    assert targets(open_images(tmp_path, class_descriptions='names.csv')).tolist() == [
        [1, 0, -1, -1], [-1, -1, 1, 1]]
    ids = ['/m/01', '/m/02', '/m/03', '/m/99']
    assert open_images(tmp_path, metainfo=dict(classes=ids)).classes == tuple(ids)
    with pytest.raises(UserError, match='trainable_classes or class_descriptions'):
        open_images(tmp_path)


TRAINABLE = dict(trainable_classes='trainable.txt')


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr('asl_det.multilabel.datasets.open_images.print_log',
                        lambda text, **kwargs: lines.append(text))
    return lines


def test_what_nobody_verified_counts_as_absent_if_asked(tmp_path):
    data = open_images(tmp_path, **TRAINABLE, unverified='negative')
    assert targets(data).tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(UserError, match="unverified='absent'"):
        open_images(tmp_path, unverified='absent')


TWICE = 'img1,crowdsource-verification,/m/01,0\nimg1,verification,/m/01,1\nimg2,v,/m/02,0\n'


@pytest.mark.parametrize('rule, value', [('unknown', -1), ('positive', 1), ('negative', 0)])
@pytest.mark.parametrize('unverified, other', [('unknown', -1), ('negative', 0)])
def test_sources_that_disagree_are_counted_and_resolved_as_stated(tmp_path, log, rule, value,
                                                                  unverified, other):
    data = open_images(tmp_path, TWICE, **TRAINABLE, contradictions=rule, unverified=unverified)
    assert targets(data).tolist() == [[other, value, 0], [1, other, 0]]
    assert f"1 label is both present and absent and taken as {rule}" in log[-1]
    assert '/m/01 in img1' in log[-1]


def test_a_disagreement_is_unknown_by_default_and_an_error_if_asked(tmp_path):
    assert targets(open_images(tmp_path, TWICE, **TRAINABLE)).tolist() == [[-1, -1, 0], [1, -1, 0]]
    with pytest.raises(UserError, match='labels.csv, line 6: /m/01 is both .* in img1'):
        open_images(tmp_path, TWICE, **TRAINABLE, contradictions='error')
    with pytest.raises(UserError, match="contradictions='first'"):
        open_images(tmp_path, contradictions='first')


@pytest.mark.parametrize('unverified', ['unknown', 'negative'])
def test_images_of_which_nothing_is_known_can_be_left_out(tmp_path, log, unverified):
    rows = 'img3,v,/m/99,1\nimg4,v,/m/01,1\nimg4,c,/m/01,0\n'  # not trainable; contradictory
    options = dict(TRAINABLE, unverified=unverified)
    assert len(open_images(tmp_path, rows, **options)) == 4
    data = open_images(tmp_path, rows, **options, keep_empty=False)
    assert len(data) == 2 and '2 images without a known label' in log[-1]


def test_the_recipe_evaluates_as_the_field_does(tmp_path):
    config = Config.fromfile('configs/multilabel/tresnet-l_asl_open-images-448.py')
    open_images(tmp_path, 'img3,v,/m/99,1\n', **TRAINABLE)
    (tmp_path / 'labels.csv').rename(tmp_path / config.val_dataloader.dataset.ann_file)
    (tmp_path / 'trainable.txt').rename(tmp_path / config.val_dataloader.dataset.trainable_classes)
    (tmp_path / 'names.csv').rename(tmp_path / config.val_dataloader.dataset.class_descriptions)
    data = DATASETS.build(dict(config.val_dataloader.dataset, data_root=str(tmp_path), pipeline=[]))
    assert targets(data).tolist() == [[-1, 1, 0], [1, -1, -1]]
    metric = METRICS.build(config.test_evaluator)
    metric.process(None, [dict(scores=torch.rand(3), gt_label=torch.from_numpy(row),
                               pred_labels=torch.arange(3)) for row in targets(data)])
    assert metric.need_negatives and metric.evaluate(2) == {}  # no class has both kinds
    assert config.val_evaluator == config.test_evaluator


def test_mistakes_name_file_and_line(tmp_path):
    def file(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    cases = [
        (file('o.csv', OPEN_IMAGES.replace('/m/01,1', '/m/01,0.7')), ['/m/01'],
         'o.csv, line 2: .* confidence 0 or 1'),
        (file('p.csv', OPEN_IMAGES), ['/m/01'], "p.csv, line 3: unknown label '/m/02'"),
        (file('q.csv', OPEN_IMAGES.replace('Confidence', 'Conf')), ['/m/01'],
         'q.csv, line 1: expected the columns ImageID, LabelName, Confidence, got'),
    ]
    for path, classes, message in cases:
        with pytest.raises(UserError, match=message):
            OpenImagesMultiLabelDataset(path, metainfo=dict(classes=classes))
    (tmp_path / 'cut.csv').write_text('/m/01,Cat\n/m/02\n')
    with pytest.raises(UserError, match='cut.csv, line 2: expected a machine id and a name'):
        OpenImagesMultiLabelDataset(file('r.csv', OPEN_IMAGES),
                                    class_descriptions=str(tmp_path / 'cut.csv'))


LARGE = '''
import re, sys
from pathlib import Path
from asl_det.multilabel import OpenImagesMultiLabelDataset
data = OpenImagesMultiLabelDataset(sys.argv[1], trainable_classes=sys.argv[2])
assert data.get_data_info(5)['gt_label'].shape == (9605,)
# Not getrusage: its peak starts at that of the process that started this one.
peak = int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text()).group(1))
print(len(data), peak // 1024)
'''


def test_a_hundred_thousand_open_images_fit_in_two_gigabytes(tmp_path):
    rng = np.random.default_rng(0)
    with open(tmp_path / 'labels.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['ImageID', 'Source', 'LabelName', 'Confidence'])
        for i in range(100_000):
            for n, label in enumerate(rng.integers(0, 9605, 10)):
                writer.writerow([f'{i:016x}', 'verification', f'/m/{label * 10 + n}', (n + 1) % 2])
    (tmp_path / 'trainable.txt').write_text(
        '\n'.join(f'/m/{label * 10}' for label in range(9605)))
    result = python('-c', LARGE, tmp_path / 'labels.csv', tmp_path / 'trainable.txt')
    assert result.returncode == 0, result.stderr
    count, megabytes = map(int, result.stdout.split()[-2:])
    assert count == 100_000 and megabytes < 2000
