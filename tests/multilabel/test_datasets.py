"""Every format is read from files written in that format."""

import csv
import json
import subprocess
import sys
from pathlib import Path

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


def write_voc(root, images):
    for folder in ('ImageSets/Main', 'Annotations', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    (root / 'ImageSets/Main/trainval.txt').write_text('\n'.join(images) + '\n')
    for name, objects in images.items():
        body = ''.join(f'<object><name>{label}</name><difficult>{difficult}</difficult></object>'
                       for label, difficult in objects)
        (root / f'Annotations/{name}.xml').write_text(
            f'<annotation><filename>{name}.jpg</filename>{body}</annotation>')
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


OPEN_IMAGES = ('ImageID,Source,LabelName,Confidence\n'
               'img1,verification,/m/01,1\n'
               'img1,verification,/m/02,0\n'
               'img2,verification,/m/03,1.0\n'
               'img2,verification,/m/99,1\n')


def open_images(tmp_path, **kwargs):
    (tmp_path / 'labels.csv').write_text(OPEN_IMAGES)
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
        (lambda: OpenImagesMultiLabelDataset(
            file('o.csv', OPEN_IMAGES.replace('/m/01,1', '/m/01,0.7')),
            metainfo=dict(classes=['/m/01'])), 'o.csv, line 2: .* confidence 0 or 1'),
        (lambda: OpenImagesMultiLabelDataset(file('p.csv', OPEN_IMAGES),
                                             metainfo=dict(classes=['/m/01'])),
         "p.csv, line 3: unknown label '/m/02'"),
        (lambda: OpenImagesMultiLabelDataset(
            file('q.csv', OPEN_IMAGES + 'img1,v,/m/01,0\n'),
            metainfo=dict(classes=['/m/01', '/m/02', '/m/03', '/m/99'])),
         'q.csv, line 6: /m/01 is both present and absent in img1'),
        (lambda: VOCMultiLabelDataset(**voc), "000001.xml: unknown label 'wolf'"),
        (lambda: VOCMultiLabelDataset(**bad_voc), '000001.xml is no XML'),
        (lambda: CocoMultiLabelDataset(coco, metainfo=dict(classes=['dog', 'wolf'])),
         'no class wolf, .* person, dog, toothbrush'),
        (lambda: CocoMultiLabelDataset(write_coco(tmp_path / 'k.json', [(1, 'a')], [(1, 5, 0)],
                                                  [(4, 'cat')])),
         'annotation 1 has the category_id 5'),
        (lambda: CocoMultiLabelDataset(file('l.json', '{}')), 'l.json is no COCO json'),
        (lambda: CocoMultiLabelDataset(coco, crowd='yes'), "crowd='yes'"),
    ]
    for make, message in cases:
        with pytest.raises(UserError, match=message):
            make()


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


def test_broken_images_are_left_out_and_counted_when_asked(images, tmp_path, monkeypatch):
    log = []
    monkeypatch.setattr('asl_det.multilabel.datasets.base.print_log',
                        lambda text, **kwargs: log.append(text))
    data = MultiLabelDataset(images, data_prefix=dict(img_path=str(tmp_path)), pipeline=PIPELINE,
                             broken_images='skip')
    assert len(data) == 1 and targets(data).tolist() == [[1, 0]]
    assert '2 of 3 images can not be decoded' in log[0] and str(tmp_path / '2.jpg') in log[0]


def test_data_sets_are_built_by_name_and_cut_to_a_part(tmp_path):
    path = write_json(tmp_path / 'a.json', [(f'{i}.png', [i % 2]) for i in range(10)])
    first = DATASETS.build(dict(type='MultiLabelDataset', ann_file=path, indices=7))
    last = DATASETS.build(dict(type='MultiLabelDataset', ann_file=path, indices=-3))
    assert len(first) == 7 and [last.get_data_info(i)['img_path'] for i in range(3)] == [
        '7.png', '8.png', '9.png']
    assert last.get_cat_ids(0) == [1]


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
                writer.writerow([f'{i:016x}', 'verification', f'/m/{label * 10 + n}', n % 2])
    (tmp_path / 'trainable.txt').write_text(
        '\n'.join(f'/m/{label * 10}' for label in range(9605)))
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', LARGE,
                             tmp_path / 'labels.csv', tmp_path / 'trainable.txt'],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    count, megabytes = map(int, result.stdout.split()[-2:])
    assert count == 100_000 and megabytes < 2000


@pytest.mark.skipif(not SHARED.exists(), reason='needs the shared data')
def test_real_coco_files_load_with_eighty_classes():
    data = CocoMultiLabelDataset(str(SHARED / 'coco80/instances_train2017.json'),
                                 data_prefix=dict(img_path=str(SHARED / 'coco80/images')),
                                 pipeline=PIPELINE)
    assert len(data) == 81 and len(data.classes) == 80 and data.classes[79] == 'toothbrush'
    assert targets(data).sum(1).min() == 0 and targets(data).sum() > 150
    assert data[0]['data_samples'].gt_label.shape == (80,)
