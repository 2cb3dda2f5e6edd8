"""Every format is read from files written in that format."""

import copy
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from PIL import Image

from asl_det.errors import UserError
from asl_det.multilabel import (
    CocoMultiLabelDataset,
    CSVMultiLabelDataset,
    MultiLabelDataset,
    NUSWIDEDataset,
    OpenImagesMultiLabelDataset,
    VOCMultiLabelDataset,
)

SHARED = Path('../shared/data')
PIPELINE = [dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            dict(type='PackMultiLabel')]


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr('asl_det.multilabel.datasets.dataset.print_log',
                        lambda text, **kwargs: lines.append(text))
    return lines


def targets(dataset):
    return np.stack([dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))])


def write_coco(path, images, annotations, categories):
    content = dict(
        images=[dict(id=i, file_name=name, width=8, height=8) for i, name in images],
        annotations=[dict(id=n, image_id=image, category_id=category, bbox=[0, 0, 4, 4], area=16,
                          iscrowd=crowd)
                     for n, (image, category, crowd) in enumerate(annotations, 1)],
        categories=[dict(id=i, name=name) for i, name in categories])
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def coco(tmp_path):
    # Ids with gaps and out of order, an image without annotations, a crowd alone and beside.
    return write_coco(tmp_path / 'instances.json',
                      [(7, 'a.jpg'), (3, 'b.jpg'), (12, 'c.jpg'), (5, 'd.jpg')],
                      [(7, 18, 0), (7, 18, 0), (7, 1, 0), (3, 90, 1), (12, 18, 1), (12, 18, 0)],
                      [(90, 'toothbrush'), (1, 'person'), (18, 'dog')])


def test_coco_ids_are_mapped_in_rising_order_and_empty_images_kept(coco):
    data = CocoMultiLabelDataset(coco)
    assert data.metainfo['classes'] == ('person', 'dog', 'toothbrush')
    assert targets(data).tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert len(CocoMultiLabelDataset(coco, keep_empty=False)) == 3


@pytest.mark.parametrize('crowd, value', [('positive', 1), ('negative', 0), ('unknown', -1)])
def test_a_crowd_alone_counts_as_asked_and_beside_an_object_not_at_all(coco, crowd, value):
    target = targets(CocoMultiLabelDataset(coco, crowd=crowd))
    assert target[1].tolist() == [0, 0, value] and target[2].tolist() == [0, 1, 0]


def test_coco_classes_can_be_chosen_and_ordered(coco):
    data = CocoMultiLabelDataset(coco, metainfo=dict(classes=['toothbrush', 'person']))
    assert targets(data).tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]


def test_class_names_may_be_digits(tmp_path):
    path = write_coco(tmp_path / 'd.json', [(1, 'a'), (2, 'b')], [(1, 1, 0), (2, 2, 0)],
                      [(1, '3'), (2, 5)])
    for classes in ([3, 5], ['3', '5']):  # a command line makes numbers of them
        data = CocoMultiLabelDataset(path, metainfo=dict(classes=classes))
        assert data.classes == ('3', '5') and targets(data).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(UserError, match='no class 7, which'):
        CocoMultiLabelDataset(path, metainfo=dict(classes=[7]))
    path = write_json(tmp_path / 'e.json', [('1.png', [1])], [3, 5])
    data = MultiLabelDataset(path, metainfo=dict(classes=[5]))
    assert data.classes == ('5',) and targets(data).tolist() == [[1]]


def write_voc(root, images, stated='{}.jpg'):
    for folder in ('ImageSets/Main', 'Annotations', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    (root / 'ImageSets/Main/trainval.txt').write_text('\n'.join(images) + '\n')
    for name, objects in images.items():
        body = ''.join(f'<object><name>{label}</name><difficult>{difficult}</difficult></object>'
                       for label, difficult in objects)
        (root / f'Annotations/{name}.xml').write_text(
            f'<annotation><filename>{stated.format(name)}</filename>{body}</annotation>')
    return dict(ann_file='ImageSets/Main/trainval.txt', data_root=str(root))


VOC_IMAGES = {'000001': [('dog', 0), ('person', 1)], '000002': [('person', 0), ('person', 1)],
              '000003': []}


@pytest.mark.parametrize('difficult, value', [('unknown', -1), ('positive', 1), ('negative', 0)])
def test_voc_objects_and_difficult_ones(tmp_path, difficult, value):
    data = VOCMultiLabelDataset(**write_voc(tmp_path, VOC_IMAGES), difficult=difficult)
    dog, person = (data.classes.index(c) for c in ('dog', 'person'))
    target = targets(data)
    assert target[:, dog].tolist() == [1, 0, 0]
    assert target[:, person].tolist() == [value, 1, 0]
    assert np.delete(target, [dog, person], 1).any() == 0
    assert data.get_data_info(0)['img_path'] == str(tmp_path / 'JPEGImages/000001.jpg')


def test_voc_class_and_file_names_may_hold_spaces(tmp_path):
    files = write_voc(tmp_path, {'scan 1': [('traffic light', 0)], 'scan': [], 'a b': []})
    (tmp_path / 'ImageSets/Main/trainval.txt').write_text('scan 1\r\nscan  -1\r\na b  1 \r\n')
    data = VOCMultiLabelDataset(**files, metainfo=dict(classes=('stop sign', 'traffic light')))
    assert [Path(data.get_data_info(i)['img_path']).name for i in range(3)] == [
        'scan 1.jpg', 'scan.jpg', 'a b.jpg']
    assert targets(data).tolist() == [[0, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize('stated', ['old.jpg', 'C:\\pictures\\old.PNG', '{}.bmp', ''])
def test_the_list_of_voc_names_the_image_whatever_the_xml_states(tmp_path, stated):
    files = write_voc(tmp_path, {'000001': [('dog', 0)], '000002': [('dog', 0)]}, stated)
    for name in ('000001.jpeg', '000002.jpg'):
        (tmp_path / 'JPEGImages' / name).touch()
    data = VOCMultiLabelDataset(**files)
    assert [Path(data.get_data_info(i)['img_path']).name for i in range(2)] == [
        '000001.jpeg', '000002.jpg']
    (tmp_path / 'JPEGImages/000002.png').touch()
    with pytest.raises(UserError, match='000002.xml: .* 000002.jpg, 000002.png'):
        VOCMultiLabelDataset(**files)


def test_coco_and_voc_files_of_the_same_images_give_the_same_targets(tmp_path):
    rng = np.random.default_rng(0)
    classes = VOCMultiLabelDataset.METAINFO['classes']
    images, annotations, voc = [], [], {}
    for i in range(40):
        labels = rng.choice(20, rng.integers(0, 5)).tolist()
        images.append((i + 100, f'{i:06d}.jpg'))
        annotations += [(i + 100, label + 1, 0) for label in labels]
        voc[f'{i:06d}'] = [(classes[label], 0) for label in labels]
    from_coco = CocoMultiLabelDataset(write_coco(tmp_path / 'c.json', images, annotations,
                                                 [(i + 1, c) for i, c in enumerate(classes)]))
    from_voc = VOCMultiLabelDataset(**write_voc(tmp_path / 'voc', voc))
    assert from_coco.metainfo['classes'] == from_voc.metainfo['classes']
    assert (targets(from_coco) == targets(from_voc)).all() and targets(from_voc).sum() > 40


NUS = ('filepath,label,split_name\n'
       'images/1_a.jpg,"[\'sky\', \'clouds\']",train\n'
       'images/2_b.jpg,"[\'beach\']",val\n'
       'images/3_c.jpg,[],train\n')


def test_nus_wide_takes_the_classes_of_all_splits(tmp_path):
    (tmp_path / 'nus.csv').write_text(NUS)
    train = NUSWIDEDataset('nus.csv', data_root=str(tmp_path), split='train')
    val = NUSWIDEDataset('nus.csv', data_root=str(tmp_path), split='val')
    assert train.classes == val.classes == ('beach', 'clouds', 'sky')
    assert targets(train).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert targets(val).tolist() == [[1, 0, 0]]


def test_an_index_column_of_nus_wide_is_left_out(tmp_path):
    for name in ('', 'Unnamed: 0'):
        lines = NUS.splitlines()
        (tmp_path / 'nus.csv').write_text('\n'.join(
            [f'{name},{lines[0]}', *(f'{i},{line}' for i, line in enumerate(lines[1:]))]))
        data = NUSWIDEDataset(str(tmp_path / 'nus.csv'), split='train')
        assert targets(data).tolist() == [[0, 1, 1], [0, 0, 0]]
        assert data.get_data_info(0)['img_path'] == 'images/1_a.jpg'


def write_json(path, rows, classes=('cat', 'dog')):
    path.write_text(json.dumps(dict(
        metainfo=dict(classes=classes),
        data_list=[dict(img_path=p, gt_label=labels) for p, labels in rows])))
    return str(path)


def test_openmmlab_json(tmp_path):
    path = write_json(tmp_path / 'a.json', [('1.png', [0]), ('2.png', []), ('3.png', [1, 0])])
    assert targets(MultiLabelDataset(path)).tolist() == [[1, 0], [0, 0], [1, 1]]
    only = MultiLabelDataset(path, metainfo=dict(classes=['dog']))
    assert targets(only).tolist() == [[0], [0], [1]]


@pytest.mark.parametrize('rows, message', [
    ([[2], [0, 1, 0]], r'data_list\[1\] \(1.png\): gt_label 0, 1, 0 is one-hot: .* here \[1\]'),
    ([[1, 1, 1]], r'is one-hot: .* here \[0, 1, 2\]'),
    ([[False, True, False]], 'gt_label False: expected the indices .* from 0 to 2'),
    ([[1.0]], 'gt_label 1.0: expected the indices'),
])
def test_labels_that_are_no_indices_are_refused(tmp_path, rows, message):
    names = [f'{i}.png' for i in range(len(rows))]
    path = write_json(tmp_path / 'a.json', list(zip(names, rows, strict=True)), list('abc'))
    with pytest.raises(UserError, match=message):
        MultiLabelDataset(path)


def test_one_hot_labels_of_two_classes_are_told_from_indices(tmp_path):
    def read(*rows):
        return targets(MultiLabelDataset(write_json(
            tmp_path / 'a.json', [(f'{i}.png', list(r)) for i, r in enumerate(rows)])))

    for rows in (((1, 0), (0, 1)), ((0, 1), (0, 0))):
        with pytest.raises(UserError, match='one-hot'):
            read(*rows)
    with pytest.raises(UserError, match='one-hot'):
        read((1, 0), (1, 0))
    assert read((0, 1), (0, 1)).tolist() == [[1, 1], [1, 1]]
    three = write_json(tmp_path / 'b.json', [('1', [0, 1]), ('2', [1, 0])], list('abc'))
    assert targets(MultiLabelDataset(three)).tolist() == [[1, 1, 0], [1, 1, 0]]
    assert read((1, 0), (0, 1), (1,)).tolist() == [[1, 1], [1, 1], [0, 1]]


def test_labels_that_may_be_one_hot_are_named_in_the_log(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('asl_det.multilabel.datasets.dataset.print_log',
                        lambda message, **_: told.append(message))
    for rows, classes, says in (([[0, 1], [0, 1]], 'ab', True), ([[0], [0]], 'a', True),
                                ([[0], []], 'a', False), ([[0, 1], [1]], 'ab', False)):
        path = write_json(tmp_path / 'a.json', [(f'{i}.png', r) for i, r in enumerate(rows)],
                          list(classes))
        told.clear()
        MultiLabelDataset(path)
        assert ('If it is a 0 or 1 for each class' in ''.join(told)) == says


@pytest.mark.parametrize('lines, classes', [
    ('1.png,0 1 0\n2.png,1 0 0\n', '012'), ('1.png,0 1 1\n', '012'),
    ('1.png,1 0\n2.png,0 1\n', '01'), ('1.png,1 0\n2.png,1 0\n', '01'),
    ('1.png,1 1\n2.png,0 1\n', '01')])
def test_one_hot_lines_of_classes_that_are_numbers_are_no_names(tmp_path, lines, classes):
    (tmp_path / 'a.csv').write_text(lines)
    with pytest.raises(UserError, match='one-hot|a 0 or 1 for each class'):
        CSVMultiLabelDataset(str(tmp_path / 'a.csv'), metainfo=dict(classes=list(classes)))
    (tmp_path / 'a.csv').write_text('1.png,0 1\n2.png,1\n3.png,1 1 1\n')
    CSVMultiLabelDataset(str(tmp_path / 'a.csv'), metainfo=dict(classes=list('01')))


CATS = dict(metainfo=dict(classes=['cat', 'dog']))


def test_an_image_that_stands_twice_is_refused_or_joined_as_asked_in_every_format(tmp_path):
    (tmp_path / 'a.csv').write_text('1.png,cat\n2.png,\n./1.png,dog\n')
    lines = NUS + 'images/3_c.jpg,"[\'sky\']",train\nimages/2_b.jpg,"[\'sky\']",train\n'
    (tmp_path / 'n.csv').write_text(lines)
    write_json(tmp_path / 'a.json', [('1.png', [0]), ('2.png', []), ('./1.png', [1])])
    write_coco(tmp_path / 'c.json', [(1, 'a'), (2, 'b'), (3, 'a')],
               [(1, 1, 0), (3, 2, 1), (2, 1, 1)], [(1, 'cat'), (2, 'dog')])
    voc = write_voc(tmp_path / 'voc', {'1': [('dog', 0), ('cat', 1)], '2': []})
    (tmp_path / 'voc/ImageSets/Main/trainval.txt').write_text('1\n2\n1\n')
    kinds = [(CSVMultiLabelDataset, dict(CATS, ann_file='a.csv'), [[1, 1], [0, 0]],
              'a.csv, line 3: ./1.png is in line 1 too'),
             (NUSWIDEDataset, dict(ann_file='n.csv', split='train'),
              [[0, 1, 1], [0, 0, 1], [0, 0, 1]], 'n.csv, line 5: images/3_c.jpg .*line 4'),
             (MultiLabelDataset, dict(ann_file='a.json'), [[1, 1], [0, 0]],
              r'data_list\[2\]: ./1.png is in data_list\[0\] too: .*join'),
             (CocoMultiLabelDataset, dict(ann_file='c.json', crowd='unknown'), [[1, -1], [-1, 0]],
              r'images\[2\]: a is in images\[0\] too'),
             (VOCMultiLabelDataset, dict(voc, **CATS), [[-1, 1], [0, 0]],
              'entry 3: 1 is in entry 1 too')]
    for kind, options, expected, message in kinds:
        options = dict(data_root=str(tmp_path)) | options
        with pytest.raises(UserError, match=message):
            kind(**options)
        assert targets(kind(repeated='join', **options)).tolist() == expected
    (tmp_path / 'o.csv').write_text('ImageID\na\na\n')
    with pytest.raises(UserError, match='line 3: a is in line 2 too'):
        OpenImagesMultiLabelDataset(str(tmp_path / 'o.csv'), test_mode=True, **CATS)
    with pytest.raises(UserError, match="repeated='yes'"):
        CSVMultiLabelDataset(str(tmp_path / 'a.csv'), repeated='yes', **CATS)


def test_class_names_by_index_are_read_in_that_order_or_refused_with_the_key(tmp_path):
    rows = [('1.png', [0]), ('2.png', [1])]
    for given in ({'1': 'dog', '0': 'cat'}, ['cat', 'dog']):
        path = write_json(tmp_path / 'a.json', rows, given)
        assert MultiLabelDataset(path).classes == ('cat', 'dog')
    mine = MultiLabelDataset(path, metainfo=dict(classes={1: 'cat', 0: 'dog'}))
    assert mine.classes == ('dog', 'cat') and targets(mine).tolist() == [[0, 1], [1, 0]]
    for given, says in (({'1': 'cat', '2': 'dog'}, 'has the keys 1, 2 and lacks 0'),
                        ({'cat': 0, 'dog': 1}, 'has the keys cat, dog and lacks 0'),
                        (['cat', None], r'metainfo.classes\[1\] is None: expected the name'),
                        ({'0': 'cat', '1': ['dog']}, r'classes\[1\] is \[.dog.\]'),
                        (2, 'metainfo.classes is 2: expected a list of names')):
        with pytest.raises(UserError, match=f'a.json: .*{says}|a.json: metainfo.{says}'):
            MultiLabelDataset(write_json(tmp_path / 'a.json', rows, given))
        with pytest.raises(UserError, match=says):
            CSVMultiLabelDataset('a.csv', metainfo=dict(classes=given))


def unlabelled_files(tmp_path):
    """A file without labels in every format, and the data set that reads it."""
    (tmp_path / 'j.json').write_text(json.dumps(dict(
        metainfo=dict(classes=['cat', 'dog']), data_list=[dict(img_path=p) for p in '12'])))
    (tmp_path / 'c.csv').write_text('file\n1\n2\n')
    coco = write_coco(tmp_path / 'i.json', [(1, '1'), (2, '2')], [], [(1, 'cat'), (2, 'dog')])
    content = json.loads(Path(coco).read_text())
    (tmp_path / 'k.json').write_text(json.dumps({k: v for k, v in content.items()
                                                 if k != 'annotations'}))
    voc = write_voc(tmp_path / 'voc', {'1': [], '2': []})
    (tmp_path / 'o.csv').write_text('ImageID,OriginalURL\n1,x\n2,y\n')
    return [
        (MultiLabelDataset, dict(ann_file=str(tmp_path / 'j.json'))),
        (CSVMultiLabelDataset, dict(ann_file=str(tmp_path / 'c.csv'), header=True, **CATS)),
        (CocoMultiLabelDataset, dict(ann_file=coco, keep_empty=False)),
        (CocoMultiLabelDataset, dict(ann_file=str(tmp_path / 'k.json'))),
        (VOCMultiLabelDataset, dict(voc, data_prefix=dict(img_path='JPEGImages'), **CATS)),
        (OpenImagesMultiLabelDataset, dict(ann_file=str(tmp_path / 'o.csv'), keep_empty=False,
                                           **CATS)),
    ]


def test_a_test_set_may_be_without_labels_and_a_training_set_not(tmp_path, log):
    for kind, options in unlabelled_files(tmp_path):
        data = kind(**options, test_mode=True)
        assert targets(data).tolist() == [[-1, -1], [-1, -1]], kind
        assert 'there will be no metrics' in log.pop()
        with pytest.raises(UserError, match='no image|LabelName|gt_label|expected file,label'):
            kind(**options)


def test_labels_that_some_rows_lack_are_a_mistake_in_a_test_set_too(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(metainfo=dict(classes=['cat']), data_list=[
        dict(img_path='1.png', gt_label=[0]), dict(img_path='2.png')])))
    with pytest.raises(UserError, match=r'data_list\[1\]: expected img_path and a list gt_label'):
        MultiLabelDataset(str(path), test_mode=True)
    (tmp_path / 'a.csv').write_text('1.png,cat\n2.png\n')
    with pytest.raises(UserError, match='a.csv, line 2: expected file,label'):
        CSVMultiLabelDataset(str(tmp_path / 'a.csv'), test_mode=True, **CATS)


def test_a_training_set_without_a_positive_label_is_refused_before_the_training(tmp_path):
    with pytest.raises(UserError, match='a.json: no image has a positive label'):
        MultiLabelDataset(write_json(tmp_path / 'a.json', [('1.png', []), ('2.png', [])]))


def test_csv_of_own_data_with_classes_from_a_file(tmp_path):
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    (tmp_path / 'a.csv').write_text('file,labels\n1.png,dog cat\n2.png,\n')
    data = CSVMultiLabelDataset('a.csv', data_root=str(tmp_path), header=True,
                                metainfo=dict(classes=str(tmp_path / 'classes.txt')))
    assert targets(data).tolist() == [[1, 1], [0, 0]]
    (tmp_path / 'b.csv').write_text('1.png,traffic light;stop sign\n')
    data = CSVMultiLabelDataset(str(tmp_path / 'b.csv'), separator=';',
                                metainfo=dict(classes=['stop sign', 'traffic light']))
    assert targets(data).tolist() == [[1, 1]]


def test_mistakes_name_file_line_and_label(tmp_path, coco):
    def file(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    cats = dict(metainfo=dict(classes=['cat', 'dog']))
    voc = write_voc(tmp_path / 'voc', {'000001': [('wolf', 0)], '000002': []})
    (tmp_path / 'voc2').mkdir()
    bad_voc = write_voc(tmp_path / 'voc2', {'000001': []})
    (tmp_path / 'voc2/Annotations/000001.xml').write_text('<annotation>')
    cases = [
        (lambda: MultiLabelDataset(write_json(tmp_path / 'x.json', [('1.png', [2])])),
         r'x.json: data_list\[0\] \(1.png\): gt_label 2: labels go from 0 to 1'),
        (lambda: MultiLabelDataset(file('y.json', '{"data_list": [{"img_path": "a"}]}')),
         'class names are not known'),
        (lambda: MultiLabelDataset(file('z.json', '{')), 'z.json is no json'),
        (lambda: MultiLabelDataset(file('w.json', '[]')), 'w.json: expected a json object'),
        (lambda: MultiLabelDataset(write_json(tmp_path / 'n.json', [])), 'n.json: no image'),
        (lambda: MultiLabelDataset(write_json(tmp_path / 't.json', [], ('a', 'a'))), 'twice: a'),
        (lambda: CSVMultiLabelDataset(file('a.csv', 'f,l\n1.png,cat\n'), **cats),
         r"a.csv, line 1 \(header=True skips a first line\): unknown label 'l'; .* cat, dog"),
        (lambda: CSVMultiLabelDataset(file('b.csv', '1.png,cat\n2.png,cow\n'), **cats),
         "b.csv, line 2: unknown label 'cow'"),
        (lambda: CSVMultiLabelDataset(file('c.csv', '1.png\n'), **cats), 'c.csv, line 1: expected'),
        (lambda: CSVMultiLabelDataset(file('d.csv', '1.png,cat\n')), 'class names are not known'),
        (lambda: CSVMultiLabelDataset(file('d.csv', '1.png,cat\n'),
                                      metainfo=dict(classes='none.txt')),
         'none.txt does not exist'),
        (lambda: NUSWIDEDataset(file('n.csv', NUS), split='test'), "split 'test'; .* train, val"),
        (lambda: NUSWIDEDataset(file('m.csv', NUS.replace('[]', 'sky')), split='val'),
         r"m.csv, line 4: expected labels like \['clouds', 'sky'\], got 'sky'"),
        (lambda: VOCMultiLabelDataset(**voc), "000001.xml: unknown label 'wolf'"),
        (lambda: VOCMultiLabelDataset(**bad_voc), '000001.xml is no XML'),
        (lambda: CocoMultiLabelDataset(coco, metainfo=dict(classes=['dog', 'wolf'])),
         'no class wolf, .* person, dog, toothbrush'),
        (lambda: CocoMultiLabelDataset(write_coco(tmp_path / 'k.json', [(1, 'a')], [(1, 5, 0)],
                                                  [(4, 'cat')])),
         'annotation 1 has the category_id 5'),
        (lambda: CocoMultiLabelDataset(file('l.json', '{}')), 'l.json is no COCO json'),
        (lambda: CocoMultiLabelDataset(file('l.json', '[]')), 'l.json is no COCO json'),
        (lambda: CocoMultiLabelDataset(file('l.json', '{"categories": []}')), 'is no COCO json'),
        (lambda: MultiLabelDataset(file('s.json', '{"metainfo": {"classes": ["a"]}, "data_list": '
                                                  '["1.png"]}')),
         r's.json: data_list\[0\]: expected img_path and a list gt_label, got 1.png'),
        (lambda: CocoMultiLabelDataset(coco, crowd='yes'), "crowd='yes'"),
    ]
    for make, message in cases:
        with pytest.raises(UserError, match=message):
            make()


def spoilt(node):
    """A json's content again and again, a part of it replaced by one of another type."""
    for other in (None, [], {}, 3, 'x', [None], True):
        yield other
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(
        node, list) else ()
    for key, inside in items:
        for other in spoilt(inside):
            changed = copy.copy(node)
            changed[key] = other
            yield changed
        if isinstance(node, dict):
            yield {k: v for k, v in node.items() if k != key}


def test_whatever_stands_in_a_json_is_read_or_refused_with_the_key(tmp_path, coco):
    for kind, path in ((MultiLabelDataset, tmp_path / 'a.json'),
                       (CocoMultiLabelDataset, Path(coco))):
        if kind is MultiLabelDataset:
            write_json(path, [('1.png', [0])])
        content = json.loads(path.read_text())
        for key in ('images', 'annotations', 'categories'):
            content[key] = content.get(key, [])[:1]
        refused = []
        for wrong in spoilt(content):
            path.write_text(json.dumps(wrong))
            try:
                kind(str(path), test_mode=True)
            except UserError as error:
                refused.append(str(error))
        assert len(refused) > 50 and all(path.name in line for line in refused)
        for key in ('metainfo', 'data_list') if kind is MultiLabelDataset else (
                'images', r'images\[0\].file_name', r'annotations\[0\].image_id',
                r'categories\[0\]'):
            assert any(re.search(f'{key} is null: expected', line) for line in refused), key


@pytest.fixture
def images(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    for name in ('1.jpg', '2.jpg', '3.jpg'):
        Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / '2.jpg').read_bytes()
    (tmp_path / '2.jpg').write_bytes(whole[:len(whole) // 2])
    (tmp_path / '3.jpg').unlink()
    return write_json(tmp_path / 'a.json', [('1.jpg', [0]), ('2.jpg', [1]), ('3.jpg', [])])


def test_a_broken_or_missing_image_is_named(images, tmp_path):
    data = MultiLabelDataset(images, data_prefix=dict(img_path=str(tmp_path)), pipeline=PIPELINE)
    assert data[0]['inputs'].shape == (3, 40, 40)
    with pytest.raises(UserError, match=f'image {tmp_path}/2.jpg can not be decoded'):
        data[1]
    with pytest.raises(UserError, match=f'image {tmp_path}/3.jpg does not exist'):
        data[2]


def test_broken_images_are_left_out_and_counted_when_asked(images, tmp_path, log):
    data = MultiLabelDataset(images, data_prefix=dict(img_path=str(tmp_path)), pipeline=PIPELINE,
                             broken_images='skip')
    assert len(data) == 1 and targets(data).tolist() == [[1, 0]]
    assert '2 of 3 images can not be decoded' in log[0] and str(tmp_path / '2.jpg') in log[0]


@pytest.mark.parametrize('loader, kept', [('LoadImageFromFile', 'hdr'),
                                          ('LoadImageWithPillow', 'tga')])
def test_what_is_broken_is_said_by_the_loader_of_the_pipeline(tmp_path, log, loader, kept):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.hdr'), noise.astype(np.float32))
    Image.fromarray(noise).save(tmp_path / 'a.tga')
    path = write_json(tmp_path / 'a.json', [('a.hdr', [0]), ('a.tga', [0])])
    options = dict(data_prefix=dict(img_path=str(tmp_path)), pipeline=[
        dict(type=loader), dict(type='PackMultiLabel')])
    data = MultiLabelDataset(path, broken_images='skip', **options)
    assert [data.get_data_info(i)['img_path'][-3:] for i in range(len(data))] == [kept]
    with pytest.raises(UserError, match='image .*a.* can not be decoded'):
        data = MultiLabelDataset(path, **options)
        data[0], data[1]


def test_data_sets_are_built_by_name_and_cut_to_a_part(tmp_path):
    path = write_json(tmp_path / 'a.json', [(f'{i}.png', [i % 2]) for i in range(10)])
    first = DATASETS.build(dict(type='MultiLabelDataset', ann_file=path, indices=7))
    last = DATASETS.build(dict(type='MultiLabelDataset', ann_file=path, indices=-3))
    assert len(first) == 7 and [last.get_data_info(i)['img_path'] for i in range(3)] == [
        '7.png', '8.png', '9.png']
    assert last.get_cat_ids(0) == [1]


@pytest.mark.skipif(not SHARED.exists(), reason='needs the shared data')
def test_real_coco_files_load_with_eighty_classes():
    data = CocoMultiLabelDataset(str(SHARED / 'coco80/instances_train2017.json'),
                                 data_prefix=dict(img_path=str(SHARED / 'coco80/images')),
                                 pipeline=PIPELINE)
    assert len(data) == 81 and len(data.classes) == 80 and data.classes[79] == 'toothbrush'
    assert targets(data).sum(1).min() == 0 and targets(data).sum() > 150
    assert data[0]['data_samples'].gt_label.shape == (80,)
