"""Names that differ in Unicode form alone: as macOS writes them (NFD), and as others do (NFC)."""

import json
import unicodedata

import numpy as np
import pytest

from asl_det.multilabel.datasets import (
    CocoMultiLabelDataset,
    CSVMultiLabelDataset,
    MultiLabelDataset,
)
from asl_det.multilabel.thresholds import Thresholds
from asl_det.preflight.class_names import check_names, check_same_classes

NAMES = {form: tuple(unicodedata.normalize(form, name) for name in ('café', 'Ärger', 'dog'))
         for form in ('NFC', 'NFD')}
assert NAMES['NFC'] != NAMES['NFD']
FORMS = pytest.mark.parametrize('config, file', [('NFC', 'NFD'), ('NFD', 'NFC')])


@FORMS
def test_labels_are_matched_in_every_form(tmp_path, config, file):
    given, written = NAMES[config], NAMES[file]
    path = tmp_path / 'labels'
    path.write_text(f'a.jpg,{written[1]} {written[2]}\n', encoding='utf-8')
    data = [CSVMultiLabelDataset(ann_file=str(path), metainfo=dict(classes=given))]
    path.write_text(json.dumps(dict(
        metainfo=dict(classes=written), data_list=[dict(img_path='a.jpg', gt_label=[1, 2])])))
    data.append(MultiLabelDataset(ann_file=str(path), metainfo=dict(classes=given)))
    path.write_text(json.dumps(dict(
        images=[dict(id=1, file_name='a.jpg', width=8, height=8)],
        categories=[dict(id=i, name=name) for i, name in enumerate(written)],
        annotations=[dict(id=i, image_id=1, category_id=i, bbox=[0, 0, 4, 4]) for i in (1, 2)])))
    data.append(CocoMultiLabelDataset(ann_file=str(path), metainfo=dict(classes=given)))
    for dataset in data:
        assert dataset[0]['gt_label'].tolist() == [0, 1, 1]
        assert tuple(dataset.classes) == NAMES['NFC']


@FORMS
def test_thresholds_are_found_in_every_form(config, file):
    thresholds = Thresholds(0.5, dict(zip(NAMES[file], (0.1, 0.2, 0.3), strict=True)))
    assert np.allclose(thresholds.of(NAMES[config]), (0.1, 0.2, 0.3))


@FORMS
def test_the_preflight_says_that_mmdet_tells_the_forms_apart_and_ours_do_not(config, file):
    given, written = NAMES[config], NAMES[file]
    found = list(check_names('train', 'a.json', given, written, file_order=True))
    assert len(found) == 2
    assert all('in another Unicode form' in f.message and '\\u0301' in found[0].message
               for f in found)
    assert not list(check_names('train', 'a.json', given, written, file_order=False))
    assert not list(check_same_classes([('train', given), ('val', written)]))
