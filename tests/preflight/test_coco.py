"""Mistakes in COCO json, each of which mmdet takes in silence or answers with a traceback."""

import json
import time

import numpy as np
import pytest
from coco_files import coco, write
from mmdet.datasets import CocoDataset

from asl_det.preflight.coco_annotations import check_coco_file, read_coco
from asl_det.preflight.columns import MISSING
from asl_det.preflight.finding import collect

A, I, C = 'annotations', 'images', 'categories'  # noqa: E741


def drop(name, key, row=0):
    return lambda d: d[name][row].pop(key)


def put(name, key, value, row=0):
    return lambda d: d[name][row].update({key: value})


def boxes(*values):
    """The boxes of the first annotations; None leaves one as it is."""
    def change(d):
        for annotation, box in zip(d[A], values, strict=False):
            if box is not None:
                annotation.update(bbox=box)
    return change


def every(name, **values):
    return lambda d: [record.update(values) for record in d[name]]


def scale_boxes(factor):
    return lambda d: [a.update(bbox=[v * f for v, f in zip(a['bbox'], factor, strict=True)])
                      for a in d[A]]


def corners(d):
    for a in d[A]:
        x, y, w, h = a['bbox']
        a['bbox'] = [x, y, x + w, y + h]


# What is done to a right file, and what the finding must say.
ERRORS = {
    'no images': (lambda d: d.pop(I), 'has no images: expected an object with images'),
    'no annotations': (lambda d: d.pop(A), 'has no annotations'),
    'no categories': (lambda d: d.pop(C), 'has no categories'),
    'empty images': (lambda d: d.update(images=[]), 'empty list of images'),
    'empty categories': (lambda d: d.update(categories=[]), 'empty list of categories'),
    'empty annotations': (lambda d: d[A].clear(), 'has no annotations: there is nothing to learn'),
    'images as a dict': (lambda d: d.update(images={'1': {}}), "images is {'1': {}}: expected a"),
    'a text among annotations': (lambda d: d[A].append('x'), "annotations[6]: got 'x': expected"),
    'image without id': (drop(I, 'id', 1), 'images[1]: has no id'),
    'image without file': (drop(I, 'file_name'), 'images[0] (id 1): has no file_name'),
    'file that is a number': (put(I, 'file_name', 7), 'file_name 7: expected a text'),
    'image without width': (drop(I, 'width', 2), 'images[2] (id 3): has no width: mmdet needs it; '
                            'asl-det data complete'),
    'width 0': (put(I, 'width', 0), 'width 0: expected pixels'),
    'width as text': (put(I, 'width', '100'), "width '100': expected pixels"),
    'two images of one id': (put(I, 'id', 1, 2), 'id 1 is that of images[0] too'),
    'category without name': (drop(C, 'name'), 'categories[0] (id 1): has no name'),
    'category without id': (drop(C, 'id'), 'categories[0]: has no id'),
    'two categories of one id': (put(C, 'id', 1, 1), 'id 1 is that of categories[0] too'),
    'two categories of one name': (put(C, 'name', 'cat', 1), "name 'cat' is that of categories[0]"),
    'unknown category': (put(A, 'category_id', 7, 3), 'annotations[3] (id 4): category_id 7: no '
                         'entry of categories has this id (they go from 1 to 2)'),
    'categories from 0': (every(A, category_id=0), 'category_id 0: no entry'),
    'category as text': (put(A, 'category_id', '2', 1), "category_id '2': the id in categories is "
                         '2, a int: write both alike'),
    'category null': (put(A, 'category_id', None), 'category_id None: expected a whole number'),
    'unknown image': (put(A, 'image_id', 44), 'image_id 44: no entry of images has this id'),
    'image as text': (put(A, 'image_id', '1'), "image_id '1': the id in images is 1, a int"),
    'image as a list': (put(A, 'image_id', [1]), 'image_id [1]: expected a whole number'),
    'annotation without image': (drop(A, 'image_id'), 'annotations[0] (id 1): has no image_id'),
    'annotation without category': (drop(A, 'category_id'), 'has no category_id'),
    'annotation without id': (drop(A, 'id', 5), 'annotations[5]: has no id'),
    'two annotations of one id': (put(A, 'id', 1, 4), 'id 1 is that of annotations[0] too'),
    'no box': (drop(A, 'bbox'), 'has no bbox: expected x, y, width, height'),
    'three numbers': (boxes([1, 2, 3]), 'bbox [1, 2, 3]: expected four numbers'),
    'numbers as text': (boxes(['1', '2', '3', '4']), "bbox ['1', '2', '3', '4']: expected four"),
    'a box as text': (boxes('1 2 3 4'), "bbox '1 2 3 4': expected four numbers"),
    'box null': (boxes(None, [1, None, 3, 4]), 'annotations[1] (id 2): bbox [1, None, 3, 4]'),
    'box NaN': (boxes([1, float('nan'), 3, 4]), 'bbox [1, nan, 3, 4]: expected finite numbers'),
    'box infinite': (boxes([1, 2, float('inf'), 4]), 'bbox [1, 2, inf, 4]: expected finite'),
    'negative width': (boxes([50, 10, -20, 10]), 'bbox [50, 10, -20, 10] has a negative width'),
    'negative height': (boxes([50, 10, 20, -1]), 'has a negative width or height'),
    'shares': (scale_boxes((.01, .0125, .01, .0125)), '6 of 6 boxes, such as bbox [0.1, 0.125, '
               '0.3, 0.5] of annotations[0] in an image of 100 x 80, are shares of the image'),
    'corners': (corners, 'while as corners x1, y1, x2, y2 all lie inside'),
    'images made smaller': (every(I, width=50, height=40), 'belong to images of another size'),
    'no area': (drop(A, 'area'), 'has no area: mmdet needs it; asl-det data complete'),
    'area as text': (put(A, 'area', '12'), "area '12': expected a number"),
    'area NaN': (put(A, 'area', float('nan')), 'area nan: expected a number'),
    'area 0 everywhere': (every(A, area=0), 'none of its 6 annotations is used'),
}

WARNINGS = {
    'width 0': (boxes([10, 10, 0, 20]), 'bbox [10, 10, 0, 20] is thinner than a pixel'),
    'thin': (boxes([10, 10, 20, 0.4]), 'is thinner than a pixel: mmdet leaves it out'),
    'outside': (boxes([200, 10, 20, 20]), 'bbox [200, 10, 20, 20] lies outside its image of 100 x'),
    'beyond': (boxes([90, 10, 20, 20]), 'bbox [90, 10, 20, 20] reaches out of its image of 100 x '
               '80'),
    'left of it': (boxes([-10, 10, 20, 20]), 'reaches out of its image'),
    'area 0': (put(A, 'area', 0), 'area 0: mmdet leaves out what has no area'),
    'no iscrowd': (drop(A, 'iscrowd'), '1 of 6 annotations have no iscrowd: mmdet takes them as'),
    'one image in two entries': (put(I, 'file_name', '1.png', 1), "file_name '1.png' is that of"),
    'a class without objects': (every(A, category_id=1), 'dog: has no object to learn from'),
}


def found(path, error, **kwargs):
    report = collect(check_coco_file(path, **kwargs))
    return [str(f) for f in (report.errors if error else report.warnings)]


@pytest.mark.parametrize('change, says', ERRORS.values(), ids=ERRORS)
def test_what_spoils_a_training_is_an_error_with_its_place(tmp_path, change, says):
    content = coco()
    change(content)
    path = write(tmp_path / 'a.json', content)
    lines = found(path, error=True)
    assert any(says in line and path in line for line in lines), lines


@pytest.mark.parametrize('change, says', WARNINGS.values(), ids=WARNINGS)
def test_what_is_odd_but_handled_is_a_warning_that_says_how(tmp_path, change, says):
    content = coco()
    change(content)
    path = write(tmp_path / 'a.json', content)
    assert found(path, error=True) == []
    line, = found(path, error=False)
    assert says in line


FILES = {
    'empty': (b'', 'is empty'),
    'white space': (b' \n', 'is empty'),
    'no json': (b'{images: []}', 'is no json: Expecting property name'),
    'cut off': (json.dumps(coco())[:200], 'cut off in line 1, after 200 characters'),
    'cut in a word': ('{"images": [tru', 'cut off'),
    'a web page': (b'<!DOCTYPE html><html>', 'is an HTML page: perhaps'),
    'a git-lfs pointer': (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'git-lfs'),
    'compressed': (b'\x1f\x8b\x08\x00\xff\xfe', 'is a gzip archive: unpack it'),
    'UTF-16': (json.dumps(coco()).encode('utf-16'), 'is UTF-16 text'),
    'UTF-16 without mark': (json.dumps(coco()).encode('utf-16-le'), 'UTF-16'),
    'a byte order mark': (json.dumps(coco()).encode('utf-8-sig'), 'with the byte order mark'),
    'a list': (b'[]', 'is a json list: expected an object'),
    'OpenMMLab': (b'{"metainfo": {}, "data_list": []}', 'is the json of OpenMMLab 2.0'),
}


@pytest.mark.parametrize('content, says', FILES.values(), ids=FILES)
def test_a_file_that_is_no_coco_json_is_called_what_it_is(tmp_path, content, says):
    path = write(tmp_path / 'a.json', content)
    line, = found(path, error=True)
    assert says in line and line.count(path) == 1


def test_folders_and_missing_files_are_errors_too(tmp_path):
    assert 'can not be read: Is a directory' in found(tmp_path, error=True)[0]
    assert 'does not exist' in found(tmp_path / 'none.json', error=True)[0]


CLASSES = {
    'none fits': (('person', 'car'), 'none of these 2 names is in'),
    'one is misspelled': (('cat', 'dgo'), "'dgo' is not in "),
    'the nearest name': (('cat', 'Dog'), "which has 'dog': use the same name"),
    'white space': (('cat', 'dog '), "'dog ' is not in"),
    'one more': (('cat', 'dog', 'horse'), "'horse' is not in"),
    'another order': (('dog', 'cat'), "class 0 is 'cat' there but 'dog' here"),
}


@pytest.mark.parametrize('classes, says', CLASSES.values(), ids=CLASSES)
def test_classes_that_the_file_does_not_have_in_this_order(tmp_path, classes, says):
    path = write(tmp_path / 'a.json', coco())
    assert any(says in line for line in found(path, error=True, classes=classes))


def test_a_class_that_the_config_leaves_out_is_counted(tmp_path):
    path = write(tmp_path / 'a.json', coco())
    line, = found(path, error=False, classes=('dog',))
    assert '3 of 6 annotations are of 1 categories that metainfo.classes does not list' in line
    assert read_coco(path, ('dog',)).counts.tolist() == [3]


def test_a_right_file_has_no_findings(tmp_path):
    path = write(tmp_path / 'a.json', coco())
    for split in ('train', 'val', 'test'):
        assert list(check_coco_file(path, ('cat', 'dog'), split=split)) == []
    assert list(check_coco_file(path, boxes=False)) == []


def test_what_only_evaluation_needs_is_an_error_where_it_is_evaluated(tmp_path):
    content = coco()
    del content[A][0]['iscrowd']
    content[A][1]['id'] = 0
    path = write(tmp_path / 'a.json', content)
    assert 'evaluation stops without it' in found(path, error=True, split='val')[0]
    assert "stands for 'not found' in pycocotools" in found(path, error=False, split='val')[0]
    assert found(path, error=True) == []


def test_a_test_set_may_be_without_annotations_and_a_validation_set_may_not(tmp_path):
    content = coco()
    content[A].clear()
    path = write(tmp_path / 'a.json', content)
    assert found(path, error=True, split='test') == []
    assert 'there is nothing to evaluate' in found(path, error=True, split='val')[0]
    del content[A]
    path = write(tmp_path / 'a.json', content)
    assert 'no metrics' in found(path, error=False, split='test')[0]


def test_a_multi_label_data_set_needs_no_boxes_and_counts_in_the_order_of_ids(tmp_path):
    content = coco()
    for annotation in content[A]:
        for key in ('bbox', 'area', 'iscrowd', 'id'):
            del annotation[key]
    for image in content[I]:
        del image['width'], image['height']
    content[C].reverse()
    content[A][0]['category_id'] = 2
    path = write(tmp_path / 'a.json', content)
    result = read_coco(path, boxes=False)
    assert result.findings == [] and result.sizes is None
    assert result.classes == ('cat', 'dog') and result.counts.tolist() == [2, 4]


def test_the_objects_that_count_are_those_that_mmdet_keeps(tmp_path):
    rng = np.random.default_rng(0)
    content = coco(names=('a', 'b', 'c', 'd'))
    box = np.concatenate([rng.uniform(-60, 140, (400, 2)), rng.uniform(-5, 60, (400, 2))], 1)
    box[::7, 2] = 0.5
    box[::11] = [100, 10, 10, 10]
    content[A] = [dict(id=n + 1, image_id=int(rng.integers(1, 4)), bbox=b, iscrowd=0,
                       category_id=int(rng.integers(1, 5)), area=int(rng.integers(0, 9)),
                       **(dict(ignore=1) if n % 13 == 0 else {}))
                  for n, b in enumerate(box.tolist())]
    path = write(tmp_path / 'a.json', content)
    classes = ('a', 'c', 'd')
    data = CocoDataset(ann_file=path, metainfo=dict(classes=classes), data_prefix=dict(img=''),
                       pipeline=[], test_mode=True, serialize_data=False)
    labels = [i['bbox_label'] for row in data.data_list for i in row['instances']]
    kept = np.bincount(labels, minlength=3)
    assert kept.min() > 10 and kept.sum() < 200
    assert read_coco(path, classes).counts.tolist() == kept.tolist()


def test_findings_say_which_box_of_which_image_they_mean(tmp_path):
    content = coco()
    content[A][3]['bbox'] = [90, 10, 30, 20]
    finding, = check_coco_file(write(tmp_path / 'a.json', content), image_folder='images')
    assert (finding.images, finding.boxes) == (('images/2.png',), ((90.0, 10.0, 30.0, 20.0),))
    content = coco()
    corners(content)
    finding, = check_coco_file(write(tmp_path / 'a.json', content), image_folder='images')
    assert finding.images == ('images/1.png', 'images/2.png')
    assert [box[2:] for box in finding.boxes] == [(90, 50), (90, 70)]


def test_repeated_mistakes_are_counted(tmp_path):
    content = coco()
    for annotation in content[A]:
        del annotation['area']
    path = write(tmp_path / 'a.json', content)
    lines = collect(check_coco_file(path)).lines()
    assert sum('has no area' in line for line in lines) == 3
    assert '  ... 3 more: no area' in lines


@pytest.mark.exhaustive
def test_a_json_of_the_size_of_coco_is_checked_in_seconds(tmp_path):
    rng = np.random.default_rng(0)
    images, objects = 118_000, 860_000
    corner, size = rng.uniform(0, 300, (objects, 2)), rng.uniform(2, 120, (objects, 2))
    box = np.concatenate([corner, size], 1).round(2)
    of, category = rng.integers(0, images, objects), rng.integers(1, 81, objects)
    content = dict(
        images=[dict(id=i, file_name=f'{i:012d}.jpg', width=640, height=480, license=1,
                     coco_url=f'http://images.cocodataset.org/train2017/{i:012d}.jpg')
                for i in range(images)],
        annotations=[dict(id=n + 1, image_id=i, category_id=c, bbox=b, area=b[2] * b[3], iscrowd=0)
                     for n, (i, c, b) in enumerate(zip(of.tolist(), category.tolist(),
                                                       box.tolist(), strict=True))],
        categories=[dict(id=c, name=f'class {c}') for c in range(1, 81)])
    for n in (17, 500_000, 859_999):
        content[A][n]['bbox'] = [10, 10, -5, 5]
    path = write(tmp_path / 'coco.json', content)
    start = time.process_time()
    result = read_coco(path)
    assert time.process_time() - start < 20
    assert [f.where for f in result.findings] == [
        f'{path}: annotations[{n}] (id {n + 1})' for n in (17, 500_000, 859_999)]
    assert len(result.images) == images and result.counts.sum() == objects - 3


JUNK = (None, True, -1, 0, 2.5, float('nan'), float('inf'), 10**400, '', 'x', [], [1], {}, {'a': 1},
        [[]], [None] * 4, 'a/b', 1e308)


def test_no_content_at_all_ends_a_check(tmp_path):
    """Any part of a right file in turn is anything at all, or missing."""
    def places(node, at=()):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield (*at, key)
            if isinstance(value, (dict, list)):
                yield from places(value, (*at, key))

    def spoil(place, value):
        content = coco()
        node = content
        for key in place[:-1]:
            node = node[key]
        if value is MISSING:
            del node[place[-1]]
        else:
            node[place[-1]] = value
        return content

    silent = []
    for place in places(coco()):
        if len(place) > 1 and place[1] > 1:
            continue  # the first two of each list are enough
        for value in (MISSING, *JUNK):
            for boxes in (True, False):
                path = write(tmp_path / 'a.json', spoil(place, value))
                report = collect(check_coco_file(path, split='val', boxes=boxes))
                report.lines()
                if boxes and not report.findings:
                    silent.append((place, value))
    # Boxes that lie inside, other names and numbers, and one object less.
    assert {place[0] + '.' + '.'.join(map(str, place[2:])) for place, _ in silent} == {
        'annotations.', *(f'annotations.bbox.{i}' for i in range(4)), 'annotations.area',
        'annotations.id', 'annotations.iscrowd', 'categories.name', 'images.file_name',
        'images.width', 'images.height'}
    assert {value for place, value in silent if place[-1] == 'iscrowd'} == {0, True}
    assert all(type(value) in (int, float, str) and value != '' for place, value in silent
               if len(place) > 2 and place[-1] != 'iscrowd')
