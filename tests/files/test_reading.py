"""Files as other programs write them: byte order marks, Windows line ends, other encodings."""

import json
from pathlib import Path

import numpy as np
import pytest

from asl_det.errors import UserError
from asl_det.multilabel import (
    CocoMultiLabelDataset,
    CSVMultiLabelDataset,
    MultiLabelDataset,
    NUSWIDEDataset,
    OpenImagesMultiLabelDataset,
    VOCMultiLabelDataset,
)


def every_format(root):
    """The same two images in every format: classes beside them, a cat on the first."""
    files = {
        'classes.txt': 'cat\ndog\n', 'names.csv': '/m/1,cat\n/m/2,dog\n', 'ids.txt': '/m/1\n/m/2\n',
        'a.csv': 'a.jpg,cat\nb.jpg,dog\n', 'nus.csv': 'filepath,label,split_name\n'
        'a.jpg,"[\'cat\']",train\nb.jpg,"[\'dog\']",train\n',
        'open.csv': 'ImageID,LabelName,Confidence\na,/m/1,1\na,/m/2,0\nb,/m/2,1\nb,/m/1,0\n',
        'a.json': json.dumps(dict(metainfo=dict(classes=['cat', 'dog']), data_list=[
            dict(img_path='a.jpg', gt_label=[0]), dict(img_path='b.jpg', gt_label=[1])]), indent=1),
        'coco.json': json.dumps(dict(
            images=[dict(id=1, file_name='a.jpg'), dict(id=2, file_name='b.jpg')],
            annotations=[dict(id=1, image_id=1, category_id=1), dict(id=2, image_id=2,
                                                                     category_id=2)],
            categories=[dict(id=1, name='cat'), dict(id=2, name='dog')]), indent=1),
        'list.txt': 'a\nb\n',
        'a.xml': '<annotation>\n<object>\n<name>cat</name>\n</object>\n</annotation>\n',
        'b.xml': '<annotation>\n<object>\n<name>dog</name>\n</object>\n</annotation>\n',
    }
    classes = dict(metainfo=dict(classes=str(root / 'classes.txt')))
    return files, [
        lambda: CSVMultiLabelDataset(str(root / 'a.csv'), **classes),
        lambda: NUSWIDEDataset(str(root / 'nus.csv'), split='train', **classes),
        lambda: OpenImagesMultiLabelDataset(str(root / 'open.csv'), trainable_classes=str(
            root / 'ids.txt'), class_descriptions=str(root / 'names.csv')),
        lambda: MultiLabelDataset(str(root / 'a.json')),
        lambda: CocoMultiLabelDataset(str(root / 'coco.json')),
        lambda: VOCMultiLabelDataset(str(root / 'list.txt'), data_prefix=dict(
            img_path=str(root), ann_path=str(root)), **classes),
    ]


@pytest.mark.parametrize('mark', ['', '\ufeff'], ids=['', 'byte order mark'])
@pytest.mark.parametrize('end', ['\n', '\r\n'], ids=['', 'Windows'])
def test_marks_and_line_ends_change_nothing(tmp_path, mark, end):
    files, data_sets = every_format(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_bytes((mark + text.replace('\n', end) + end).encode())
    for read in data_sets:
        data = read()
        assert tuple(data.classes) == ('cat', 'dog')
        info = [data.get_data_info(i) for i in range(2)]
        assert np.stack([i['gt_label'] for i in info]).tolist() == [[1, 0], [0, 1]]
        assert [Path(i['img_path']).name for i in info] == ['a.jpg', 'b.jpg']


def test_other_encodings_are_named(tmp_path):
    files, data_sets = every_format(tmp_path)
    for encoding in ('utf-16', 'latin-1'):
        for name, text in files.items():
            text = text.replace('a.jpg', '\u00e4.jpg').replace('cat', 'k\u00e4t').replace(
                'ImageID', 'ImageID,\u00e4')
            (tmp_path / name).write_bytes(text.encode(encoding))
        for read in data_sets[:-1]:
            with pytest.raises(UserError, match='is no UTF-8 text|is UTF-16 text'):
                read()
