"""Mistakes in the data of a config, found through the check of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from coco_files import coco, write
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from PIL import Image
from pycocotools import mask as rle

import asl_det
from asl_det.engine import load_config
from asl_det.preflight.annotations import check_annotations
from asl_det.preflight.finding import collect
from asl_det.preflight.images import check_images
from asl_det.preflight.run import Run
from asl_det.registry import DATASETS

SHARED = Path(asl_det.__file__).parents[1] / '../shared/data'


def lines_of(cfg, check=check_annotations, purpose='train', error=True):
    cfg = cfg if isinstance(cfg, Config) else Config(cfg)
    report = collect(check(Run(cfg, 'config.py', purpose)))
    return [str(f) for f in (report.errors if error else report.warnings)]


def detection(root, train, val=None, **evaluator):
    """A config of two COCO data sets; ``train`` and ``val`` change the first and the second."""
    def dataset(file, more):
        return dict(type='CocoDataset', data_root=str(root), ann_file=file,
                    data_prefix=dict(img=''), metainfo=dict(classes=('cat', 'dog')),
                    pipeline=[]) | more
    return dict(train_dataloader=dict(dataset=dataset('train.json', train)),
                val_dataloader=dict(dataset=dataset('val.json', val or {})),
                val_evaluator=dict(type='CocoMetric', ann_file=f'{root}/val.json') | evaluator)


@pytest.fixture
def root(tmp_path):
    for name in ('train.json', 'val.json'):
        write(tmp_path / name, coco())
    (tmp_path / 'images').mkdir()
    return tmp_path


CONFIGS = {
    'one class as text': (dict(metainfo=dict(classes='ship')), "'ship' is a text, whose letters "
                          "would be 4 classes, and no file: write ('ship',)"),
    'capitals': (dict(metainfo=dict(CLASSES=('cat', 'dog'))), 'has CLASSES and no classes'),
    'a list for metainfo': (dict(metainfo=['cat']), "['cat']: expected dict(classes=(...))"),
    'classes as a number': (dict(metainfo=dict(classes=2)), '2: expected a sequence of names'),
    'classes that are numbers': (dict(metainfo=dict(classes=(3, 5))), '3, 5: expected texts'),
    'a class twice': (dict(metainfo=dict(classes=('cat', 'cat'))), 'cat stands there twice'),
    'the classes of COCO': (dict(metainfo={}), '... (78 in all) are not in'),
    'none of the names': (dict(metainfo=dict(classes=('a', 'b'))), 'none of these 2 names'),
    'another order': (dict(metainfo=dict(classes=('dog', 'cat'))), "class 0 is 'cat' there"),
    'a folder': (dict(ann_file='images'), 'images: can not be read: Is a directory'),
}


@pytest.mark.parametrize('change, says', CONFIGS.values(), ids=CONFIGS)
def test_mistakes_in_the_config_of_a_data_set(root, change, says):
    lines = lines_of(detection(root, change))
    assert any(says in line for line in lines), lines


def test_right_data_has_no_findings(root):
    cfg = detection(root, {})
    assert lines_of(cfg) == lines_of(cfg, error=False) == []


def test_a_file_that_changed_is_read_again(root):
    cfg = detection(root, {})
    assert lines_of(cfg) == []
    content = coco()
    content['annotations'][0]['category_id'] = 5
    write(root / 'train.json', content)
    assert 'category_id 5' in lines_of(cfg)[0]


def test_every_mistake_of_every_file_is_said_at_once(root):
    content = coco()
    content['annotations'][0]['bbox'] = [1, 2, 3]
    content['images'][0].pop('height')
    write(root / 'train.json', content)
    write(root / 'val.json', 'x')
    lines = lines_of(detection(root, {}))
    assert len(lines) == 3 and {'bbox' in lines[1], 'height' in lines[0],
                                'no json' in lines[2]} == {True}


def test_a_validation_set_with_categories_in_another_order_or_missing(root):
    write(root / 'val.json', coco(names=('dog', 'cat')))
    line, = lines_of(detection(root, {}))
    assert 'val_dataloader.dataset.metainfo.classes' in line and "0 is 'dog' there" in line
    write(root / 'val.json', coco(names=('cat',)))
    line, = lines_of(detection(root, {}))
    assert "'dog' is not in" in line and 'val.json' in line


def test_data_sets_whose_classes_differ(root):
    def multilabel(classes, **more):
        return dict(type='CocoMultiLabelDataset', data_prefix=dict(img_path=''),
                    metainfo=dict(classes=classes), **more)
    cfg = detection(root, multilabel(('cat', 'dog')), multilabel(('dog', 'cat')))
    line, = lines_of(cfg)
    assert "the same in another order: class 0 is 'dog', there 'cat'" in line
    cfg = detection(root, multilabel(('cat', 'dog')), multilabel(('dog',)))
    assert 'cat only there' in lines_of(cfg)[0]


def test_validation_without_objects_of_a_class_is_a_warning(root):
    content = coco()
    for annotation in content['annotations']:
        annotation['category_id'] = 1
    write(root / 'val.json', content)
    line, = lines_of(detection(root, {}), error=False)
    assert 'dog: has no object, so that its AP is not known' in line


def test_a_data_set_that_only_its_own_class_reads_is_built(root):
    @DATASETS.register_module(force=True)
    class OwnFormat(BaseDataset):
        def load_data_list(self):
            return [dict(img_path=row['image']) for row in json.loads(
                Path(self.ann_file).read_text())]

    (root / 'own.json').write_text('[{"image": "a"}, {"img": "b"}]')
    cfg = detection(root, dict(type='OwnFormat', ann_file='own.json', data_prefix={}))
    assert "OwnFormat can not read" in lines_of(cfg)[0] and "KeyError: 'image'" in lines_of(cfg)[0]


def test_wrapped_data_sets_are_looked_into(root):
    cfg = detection(root, dict(metainfo=dict(classes='ship')))
    inner = cfg['train_dataloader']['dataset']
    cfg['train_dataloader']['dataset'] = dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[inner]))
    assert 'train_dataloader.dataset.dataset.datasets.0.metainfo.classes' in lines_of(cfg)[0]


@pytest.mark.skipif(not SHARED.is_dir(), reason='no ../shared/data')
def test_what_is_found_in_real_data_is_true():
    """Circuit boards and 18 classes have no mistakes; of COCO's 80 some are in no photo."""
    board = load_config('configs/own_data/retinanet_r18-w16_fpn_asl-12e_deeppcb.py',
                        dict(data_root=str(SHARED / 'deeppcb')))
    photos = load_config('configs/multilabel/efficientnet-lite0_asl_coco18.py',
                         dict(data_root=str(SHARED / 'coco18')))
    cfg = load_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
                      dict(data_root=str(SHARED / 'coco80')))
    for split, name in (('train', 'train2017'), ('val', 'val2017')):
        cfg[f'{split}_dataloader'].dataset.update(ann_file=f'instances_{name}.json',
                                                  data_prefix=dict(img='images/'))
    cfg.val_evaluator.ann_file = str(SHARED / 'coco80' / 'instances_val2017.json')
    for right in (board, photos):
        for check in (check_annotations, check_images):
            assert lines_of(right, check) == lines_of(right, check, error=False) == []
    assert lines_of(cfg) == lines_of(cfg, check_images) == []
    lines = lines_of(cfg, error=False)
    for line, name in zip(lines, ('train2017', 'val2017'), strict=True):
        content = json.loads((SHARED / f'coco80/instances_{name}.json').read_text())
        used = {a['category_id'] for a in content['annotations']}
        empty = [c['name'] for c in content['categories'] if c['id'] not in used]
        assert f'{name}.json: {", ".join(empty)}: each has no object' in line


def voc(root, **objects):
    """Images of VOC with the objects ``(name, xmin, ymin, xmax, ymax)``; 100 x 80 pixels."""
    for folder in ('ImageSets', 'Annotations', 'JPEGImages'):
        (root / folder).mkdir()
    (root / 'ImageSets/list.txt').write_text('\n'.join(objects) + '\n')
    for image, things in objects.items():
        body = things if isinstance(things, str) else ''.join(
            f'<object><name>{name}</name><bndbox>' + ''.join(
                f'<{key}>{v}</{key}>' for key, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), box,
                                                        strict=False)) + '</bndbox></object>'
            for name, *box in things)
        (root / f'Annotations/{image}.xml').write_text(
            f'<annotation><size><width>100</width><height>80</height></size>{body}</annotation>'
            if not body.startswith('!') else body)
        Image.fromarray(np.zeros((80, 100), np.uint8)).save(root / f'JPEGImages/{image}.jpg')
    return dict(train_dataloader=dict(dataset=dict(
        type='VOCDataset', data_root=str(root), ann_file='ImageSets/list.txt',
        data_prefix=dict(sub_data_root=''), metainfo=dict(classes=('cat', 'dog')), pipeline=[])))


RIGHT = [('cat', 10, 10, 30, 30), ('dog', 20, 20, 60, 60)]
VOC = {
    'not XML': ('!x', 'is no XML: not well-formed'),
    'no box': ([*RIGHT, ('cat',)], 'object[2] (cat): bndbox has None, None, None, None'),
    'three numbers': ([*RIGHT, ('cat', 1, 2, 3)], 'bndbox has 1, 2, 3, None: expected the numbers'),
    'text': ([*RIGHT, ('cat', 'a', 1, 2, 3)], 'bndbox has a, 1, 2, 3'),
    'NaN': ([*RIGHT, ('cat', 'nan', 1, 2, 3)], 'bndbox has nan, 1, 2, 3'),
    'shares': ([*RIGHT, ('cat', .1, .1, .5, .5)], 'is in shares of the image'),
    'width and height': ([*RIGHT, ('cat', 60, 50, 20, 20)], 'bndbox 60, 50, 20, 20 has no size'),
    'outside': ([*RIGHT, ('cat', 120, 50, 140, 70)], 'lies outside its image of 100 x 80'),
    'misspelled': ([*RIGHT, ('cta', 1, 1, 20, 20), ('Dog', 1, 1, 20, 20)], "1 objects are called "
                   "'Dog', which metainfo.classes does not list, but 'dog': use the same name"),
    'nothing': ([], 'no image has an object of metainfo.classes'),
}


@pytest.mark.parametrize('objects, says', VOC.values(), ids=VOC)
def test_mistakes_in_the_boxes_of_voc(tmp_path, objects, says):
    cfg = voc(tmp_path, a=objects)
    assert any(says in line for line in lines_of(cfg)), lines_of(cfg)


def test_right_voc_has_no_findings_and_other_names_are_counted(tmp_path):
    cfg = voc(tmp_path, a=RIGHT, b=[('horse', 1, 1, 20, 20), ('cat', 10, 10, 200, 30)])
    assert lines_of(cfg) == lines_of(cfg, check_images) == []
    left_out, beyond = sorted(lines_of(cfg, error=False))[::-1]
    assert 'reaches out of its image' in beyond + left_out
    assert '1 objects of horse are left out' in beyond + left_out
    (tmp_path / 'ImageSets/list.txt').write_text('a\nc\n')
    assert "c.xml does not exist, but the list names 'c'" in lines_of(cfg)[0]
    cfg['train_dataloader']['dataset']['metainfo'] = dict(classes='ship')
    assert "write ('ship',)" in lines_of(cfg)[0]


def multilabel(root, kind, file, content, **more):
    write(root / file, content)
    (root / 'classes.txt').write_text('cat\ndog\nhorse\n')
    dataset = dict(type=kind, data_root=str(root), ann_file=file, pipeline=[], **more)
    return dict(train_dataloader=dict(dataset=dataset))


def rows(*labels, classes=('cat', 'dog', 'horse')):
    return dict(metainfo=dict(classes=classes), data_list=[
        dict(img_path=f'{i}.png', gt_label=label) for i, label in enumerate(labels)])


NAMES = dict(metainfo=dict(classes=('cat', 'dog', 'horse')))
OPEN = dict(metainfo=dict(classes=('/m/1', '/m/2')))
MULTILABEL = {
    'index too large': ('MultiLabelDataset', rows([0], [3], [1, 2]), {},
                        'data_list[1] (1.png): gt_label 3: labels go from 0 to 2'),
    'multi-hot': ('MultiLabelDataset', rows([0, 1, 0], [1, 1, 0]), {}, 'is one-hot: expected'),
    'multi-hot of more classes': ('MultiLabelDataset', rows([0, 1, 0, 0]), {},
                                  'expected the indices of the present classes, each once'),
    'an index twice': ('MultiLabelDataset', rows([2, 2], [0], [1]), {}, 'each once'),
    'names': ('MultiLabelDataset', rows(['cat']), {}, "gt_label 'cat': expected the indices"),
    'a number': ('MultiLabelDataset', rows(1), {}, 'expected img_path and a list gt_label'),
    'no rows': ('MultiLabelDataset', rows(), {}, 'no image is left'),
    'no labels': ('MultiLabelDataset', rows([], []), {}, 'no image has a positive label'),
    'COCO json': ('MultiLabelDataset', coco(), {}, 'expected a json object with metainfo and data'),
    'cut json': ('MultiLabelDataset', '{"data_list": [', {}, 'cut off'),
    'a class that is not there': ('MultiLabelDataset', rows([0]), dict(
        metainfo=dict(classes=('cat', 'dgo'))), 'there is no class dgo'),
    'unknown name': ('CSVMultiLabelDataset', 'a.png,cat dgo\n', NAMES, "unknown label 'dgo'"),
    'three columns': ('CSVMultiLabelDataset', 'a.png,cat,dog\n', NAMES, 'got 3 columns'),
    'an image twice': ('CSVMultiLabelDataset', 'a,cat\na,dog\n', NAMES, 'line 2: a is in line 1'),
    'an image twice in json': ('MultiLabelDataset', dict(rows([0], [1]), data_list=[
        dict(img_path='a', gt_label=[i]) for i in (0, 1)]), {}, 'a is in data_list[0] too'),
    'an image twice in COCO json': ('CocoMultiLabelDataset', dict(coco(), images=[
        dict(id=i, file_name=f'./{min(i, 2)}.png') for i in (1, 2, 3)]), {},
        "file_name '2.png' is that of images[1] too"),
    'a csv line without a file': ('CSVMultiLabelDataset', 'a,cat\n,dog\n', NAMES,
                                  'line 2: has no file name'),
    'no metainfo': ('MultiLabelDataset', dict(rows([0]), metainfo=None), {},
                    'metainfo is null: expected an object'),
    'no names': ('MultiLabelDataset', rows([0], classes={'a': 'cat'}), {},
                 'metainfo.classes has the keys a and lacks 0'),
    'empty csv': ('CSVMultiLabelDataset', '', NAMES, 'is empty'),
    'a web page as csv': ('CSVMultiLabelDataset', '<html>', NAMES, 'is an HTML page'),
    'no split': ('NUSWIDEDataset', 'file,label,split\na,"[\'cat\']",val\n', dict(split='train'),
                 "no line belongs to split 'train'"),
    'labels of NUS-WIDE': ('NUSWIDEDataset', 'f,l,s\na,cat,train\nb,"[\'cat\']",train\n', dict(
        split='train'), "line 2: expected labels like"),
    'columns of Open Images': ('OpenImagesMultiLabelDataset', 'Image,Label\na,b\n', OPEN,
                               'line 1: expected the columns ImageID'),
    'confidence': ('OpenImagesMultiLabelDataset', 'ImageID,LabelName,Confidence\na,/m/1,0.7\n',
                   OPEN, 'line 2: expected an image, a label and the confidence 0 or 1'),
    'machine id': ('OpenImagesMultiLabelDataset', 'ImageID,LabelName,Confidence\na,/m/3,1\n', OPEN,
                   "line 2: unknown label '/m/3'"),
    'VOC without XML': ('VOCMultiLabelDataset', 'a\n', dict(NAMES, data_prefix=dict(
        img_path='', ann_path='')), 'a.xml does not exist, but'),
}


@pytest.mark.parametrize('kind, content, more, says', MULTILABEL.values(), ids=MULTILABEL)
def test_mistakes_in_multi_label_data(tmp_path, kind, content, more, says):
    lines = lines_of(multilabel(tmp_path, kind, 'labels', content, **more))
    assert any(says in line for line in lines), lines
    assert all(line.count('labels') for line in lines)


@pytest.mark.parametrize('kind, content, more, places', [
    ('MultiLabelDataset', rows([7], [0], ['x'], [1, 2, 0]), {}, ('data_list[0]', 'data_list[2]')),
    ('CSVMultiLabelDataset', 'a,cat\nb,x\nc,dog\nd,y\na,dog\ne,horse\n', NAMES,
     ('line 2', 'line 4', 'line 5')),
    ('NUSWIDEDataset', 'f,l,s\na,1,train\nb,"[\'cat\']",train\nc,train\n', dict(split='train'),
     ('line 2', 'line 4')),
    ('OpenImagesMultiLabelDataset', 'ImageID,LabelName,Confidence\na,/m/1,2\na,/m/2,1\nb,/m/9,1\n'
     'b,/m/1,1\nc,x\n', OPEN, ('line 2', 'line 4', 'line 6')),
    ('VOCMultiLabelDataset', 'a\nb\n', dict(NAMES, data_prefix=dict(img_path='', ann_path='')),
     ('a.xml', 'b.xml'))],
    ids=['json', 'csv', 'NUS-WIDE', 'Open Images', 'VOC'])
def test_all_rows_with_mistakes_are_said_and_not_the_first_alone(tmp_path, kind, content, more,
                                                                 places):
    lines = lines_of(multilabel(tmp_path, kind, 'labels', content, **more))
    assert [next(p for p in places if p in line) for line in lines[:len(places)]] == list(places)


def test_classes_without_a_positive_image_are_a_warning(tmp_path):
    cfg = multilabel(tmp_path, 'MultiLabelDataset', 'labels.json', rows([0], [0, 2]))
    assert 'dog: has no image to learn from' in lines_of(cfg, error=False)[0]


def spoilt(root, change, split='train', file=None):
    """A run whose ``split`` has the annotations of a right file after ``change``."""
    content = coco()
    change(content)
    write(root / (file or f'{split}.json'), content)
    return content


def every(**values):
    return lambda content: [a.update(values) for a in content['annotations']]


LEFT_OUT = {
    'crowds': (every(iscrowd=1), 'none of its 6 annotations is used (6 are crowds, iscrowd 1'),
    'ignored': (every(ignore=1), 'none of its 6 annotations is used'),
    'no area': (every(area=0), 'none of its 6 annotations is used'),
    'thin': (every(bbox=[5, 5, 0.5, 20]), 'none of its 6 annotations is used'),
}


@pytest.mark.parametrize('change, says', LEFT_OUT.values(), ids=LEFT_OUT)
def test_objects_that_training_leaves_out_are_nothing_to_learn(root, change, says):
    spoilt(root, change)
    assert any(says in line and 'nothing to learn' in line for line in lines_of(
        detection(root, {})))


def test_one_class_of_crowds_alone_is_without_objects(root):
    spoilt(root, lambda d: [a.update(iscrowd=1) for a in d['annotations'] if a['category_id'] == 1])
    assert 'cat: has no object to learn from' in lines_of(detection(root, {}), error=False)[0]


def test_crowds_alone_are_nothing_to_evaluate(root):
    spoilt(root, every(iscrowd=1), 'val')
    assert 'val.json: none of its 6 annotations is used (6 are crowds' in lines_of(
        detection(root, {}))[0]


def test_what_mmdet_ignores_is_an_object_of_the_evaluation(root):
    """pycocotools reads iscrowd alone."""
    spoilt(root, every(ignore=1), 'val')
    assert lines_of(detection(root, {})) == []


def test_objects_in_images_that_are_left_out_do_not_count(root):
    def second_is_small(d):
        d['images'][1].update(width=20, height=20)
        for a in d['annotations']:
            a['category_id'] = 2 if a['image_id'] == 2 else 1
            if a['image_id'] == 2:
                a.update(bbox=[1, 1, 10, 10], area=100)
    spoilt(root, second_is_small)
    assert lines_of(detection(root, {}), error=False) == []
    cfg = detection(root, dict(filter_cfg=dict(min_size=32)))
    assert 'dog: has no object to learn from' in lines_of(cfg, error=False)[0]
    cfg = detection(root, dict(indices=[0, 2]))
    assert 'dog: has no object to learn from' in lines_of(cfg, error=False)[0]
    assert lines_of(detection(root, dict(filter_cfg=dict(min_size=32), test_mode=True)),
                    error=False) == []


NO_IMAGE = {
    'min_size': (dict(filter_cfg=dict(filter_empty_gt=True, min_size=81)), 'filter_cfg: '),
    'indices': (dict(indices=0), 'indices: 0 leaves none of the 3 images'),
    'no indices': (dict(indices=[]), 'indices: an empty list'),
    'indices beyond': (dict(indices=[0, 3]), 'indices: 3 is no position of the 3 images'),
    'indices as text': (dict(indices='10'), "indices: '10': expected how many"),
}


@pytest.mark.parametrize('change, says', NO_IMAGE.values(), ids=NO_IMAGE)
def test_a_filter_that_leaves_no_image_is_named(root, change, says):
    line, = lines_of(detection(root, change))
    assert f'train_dataloader.dataset.{says}' in line


@pytest.mark.parametrize('change', [dict(indices=0), dict(indices=[7])])
def test_indices_of_multi_label_data_leave_an_image(tmp_path, change):
    cfg = multilabel(tmp_path, 'MultiLabelDataset', 'labels.json', rows([0], [1], [2]), **change)
    assert 'train_dataloader.dataset.indices: ' in lines_of(cfg)[0]


def test_multi_label_objects_that_are_left_out_do_not_count(tmp_path):
    cfg = multilabel(tmp_path, 'MultiLabelDataset', 'labels.json', rows([0], [1], [2]), indices=2)
    assert 'horse: has no image to learn from' in lines_of(cfg, error=False)[0]
    content = coco()
    every(iscrowd=1)(content)
    for crowd, wrong in (('positive', 0), ('unknown', 1), ('negative', 1)):
        cfg = multilabel(tmp_path, 'CocoMultiLabelDataset', 'coco.json', content, crowd=crowd)
        assert len(lines_of(cfg)) == wrong


def difficult(root):
    for path in (root / 'Annotations').iterdir():
        path.write_text(path.read_text().replace('<bndbox>', '<difficult>1</difficult><bndbox>'))


def test_difficult_and_small_objects_of_voc_are_nothing_to_learn(tmp_path):
    cfg = voc(tmp_path, a=RIGHT)
    cfg['train_dataloader']['dataset']['filter_cfg'] = dict(bbox_min_size=30)
    assert 'cat: has no object to learn from' in lines_of(cfg, error=False)[0]
    cfg['train_dataloader']['dataset']['filter_cfg'] = dict(bbox_min_size=50)
    assert '2 are smaller than bbox_min_size=50' in lines_of(cfg)[0]
    cfg['train_dataloader']['dataset']['test_mode'] = True
    assert 'filter_cfg.bbox_min_size: 50: mmdet filters boxes in training alone' in lines_of(cfg)[0]
    cfg['train_dataloader']['dataset']['filter_cfg'] = None
    difficult(tmp_path)
    assert 'that counts (2 are difficult)' in lines_of(cfg)[0]


def test_filters_of_voc_leave_an_image(tmp_path):
    cfg = voc(tmp_path, a=RIGHT, b=[])
    dataset = cfg['train_dataloader']['dataset']
    dataset['filter_cfg'] = dict(filter_empty_gt=True, min_size=32)
    assert lines_of(cfg) == []
    dataset['filter_cfg'] = dict(filter_empty_gt=True, min_size=200)
    assert 'leaves none of the 2 images' in lines_of(cfg)[0]


def test_ignored_objects_of_a_format_that_only_its_class_reads_do_not_count(root):
    @DATASETS.register_module(force=True)
    class IgnoredObjects(BaseDataset):
        METAINFO = dict(classes=('cat', 'dog'))

        def load_data_list(self):
            return [dict(img_path='a', instances=[dict(bbox_label=0, ignore_flag=self.ignore)])]

        ignore = 0

    (root / 'own.json').write_text('')
    cfg = detection(root, dict(type='IgnoredObjects', ann_file='own.json', data_prefix={}))
    assert lines_of(cfg) == []
    IgnoredObjects.ignore = 1
    (root / 'own.json').write_text('changed')
    assert 'IgnoredObjects finds no object that counts' in lines_of(cfg)[0]


def test_a_filter_of_another_format_that_leaves_no_image_is_named(root):
    @DATASETS.register_module(force=True)
    class NothingLeft(BaseDataset):
        def load_data_list(self):
            return [dict(img_path='a')]

    (root / 'own.json').write_text('')
    cfg = detection(root, dict(type='NothingLeft', ann_file='own.json', data_prefix={}, indices=0))
    assert 'no image is left by filter_cfg and indices' in lines_of(cfg)[0]


def masked(*values):
    """Segmentations of the first annotations; right polygons for the others."""
    def change(content):
        for a in content['annotations']:
            x, y, w, h = a['bbox']
            a['segmentation'] = [[x, y, x + w, y, x + w, y + h]]
        for a, value in zip(content['annotations'], values, strict=False):
            a['segmentation'] = value
            if value is None:
                del a['segmentation']
    return change


RUNS = [8000]
MASKS = {
    'missing': ([None], 'annotations[0] (id 1): has no segmentation, and masks are asked for'),
    'empty': ([[]], 'segmentation [] is empty'),
    'two points': ([[[1, 2, 3, 4]]], 'a polygon of 4 numbers'),
    'an odd number': ([[[1, 2, 3, 4, 5, 6, 7]]], 'a polygon of 7 numbers'),
    'no list around it': ([[1, 2, 3, 4, 5, 6]], 'without a list around it: write [[...]]'),
    'text': (['abc'], "segmentation 'abc': expected a list of polygons"),
    'run lengths of another size': ([dict(size=[100, 80], counts=RUNS)],
                                    'has the size [100, 80] (height, width), but its image is '
                                    '100 x 80'),
    'run lengths that are short': ([dict(size=[80, 100], counts=[10])], 'do not fill'),
    'an outline that ends pycocotools': ([[[0, 0, 1e12, 0, 1e12, 1e12]]],
                                         'numbers up to 1,000,000'),
    'run lengths of a size that is text': ([dict(size=['80', '100'], counts=[10])],
                                           'expected a list of polygons'),
    'run lengths without size': ([dict(counts=[10])], 'expected a list of polygons'),
}


@pytest.mark.parametrize('values, says', MASKS.values(), ids=MASKS)
def test_masks_are_looked_at_where_they_are_used(root, values, says):
    load = dict(pipeline=[dict(type='LoadImageFromFile'), dict(
        type='LoadAnnotations', with_bbox=True, with_mask=True)])
    spoilt(root, masked(*values))
    assert lines_of(detection(root, {})) == lines_of(detection(root, {}), error=False) == []
    cfg = detection(root, load)
    lines = lines_of(cfg) + lines_of(cfg, error=False)
    assert len(lines) == 1 and says in lines[0], lines
    spoilt(root, masked())
    spoilt(root, masked(*values), 'val')
    assert lines_of(detection(root, load)) == []
    assert says in lines_of(detection(root, load, metric=['bbox', 'segm']))[0]


def test_right_masks_have_no_findings(root):
    load = dict(pipeline=[dict(type='LoadAnnotations', with_mask=True)])
    whole = rle.encode(np.ones((80, 100), np.uint8, order='F'))
    whole['counts'] = whole['counts'].decode()
    masks = masked([[1, 1, 9, 1, 9, 9], [20, 20, 40, 20, 40, 40, 20, 40]],
                   dict(size=[80, 100], counts=RUNS), whole)
    for split in ('train', 'val'):
        spoilt(root, masks, split)
    cfg = detection(root, load, metric='segm')
    assert lines_of(cfg) == lines_of(cfg, error=False) == []


def test_a_test_set_with_an_empty_list_of_annotations_is_said_to_have_no_metrics(root):
    write(root / 'test.json', dict(coco(), annotations=[]))
    cfg = detection(root, {}, dict(ann_file='test.json', test_mode=True),
                    ann_file=f'{root}/test.json')
    cfg = Config(dict(test_dataloader=cfg['val_dataloader'], test_evaluator=cfg['val_evaluator']))
    assert lines_of(cfg, purpose='test') == []
    assert 'an empty list of annotations: there will be results, and no metrics' in lines_of(
        cfg, purpose='test', error=False)[0]


def test_voc_of_png_is_told_that_jpg_is_read(tmp_path):
    cfg = voc(tmp_path, a=RIGHT)
    (tmp_path / 'JPEGImages/a.jpg').rename(tmp_path / 'JPEGImages/a.png')
    assert 'there is a.png' in lines_of(cfg, check_images)[0]
    assert 'VOC data sets read .jpg alone' in lines_of(cfg, check_images)[0]
