"""COCO json, as mmdet's ``CocoDataset`` and pycocotools read it."""

import codecs
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from asl_det.errors import UserError
from asl_det.files.reading import MISSING, read_json
from asl_det.files.text import shown
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.preflight.class_names import check_counts, check_names
from asl_det.preflight.columns import Table, as_findings, hashable, numbers
from asl_det.preflight.filters import choose_few, kept_images
from asl_det.preflight.finding import Contents, Finding, Known
from asl_det.preflight.objects import Boxes, check_boxes, check_masks, readable_boxes, used_boxes

COMPLETE = 'asl-det data complete {path} NEW_FILE writes a copy with what is certain'
LISTS = ('images', 'annotations', 'categories')


def check_coco_file(path: Union[str, Path], classes: Optional[Sequence[str]] = None,
                    image_folder: Union[str, Path] = '', *, split: str = 'train',
                    boxes: bool = True, place: str = 'dataset',
                    dataset: Optional[Mapping[str, Any]] = None) -> Iterator[Finding]:
    """What is wrong with a COCO json.

    Args:
        path: the file.
        classes: names that the config gives; None for all of the file.
        image_folder: what comes before ``file_name``.
        split: 'train', 'val' or 'test'. Evaluation needs more keys than
            training, and a test set may be without annotations.
        boxes: whether boxes are used; a multi-label data set reads the
            categories alone.
        place: dotted key of the data set, for messages.
        dataset: its other settings: ``filter_cfg``, ``indices``,
            ``test_mode``, ``crowd``.
    """
    yield from read_coco(path, classes, image_folder, split=split, boxes=boxes,
                         place=place, dataset=dataset).findings


def read_coco(path: Union[str, Path], classes: Optional[Sequence[str]] = None,
              image_folder: Union[str, Path] = '', *, split: str = 'train', boxes: bool = True,
              place: str = 'dataset', dataset: Optional[Mapping[str, Any]] = None,
              repeated: str = 'warn') -> Contents:
    """The contents of a COCO json and what is wrong; arguments as in :func:`check_coco_file`.

    ``repeated`` is what an image in two entries is: 'error', 'join' or 'warn'.
    """
    result, dataset = Contents(), dataset or {}
    result.findings, content, tables = _open(path, split, boxes)
    if not tables:
        return result
    categories, images, annotations = tables
    names, category_ids, found = _read_categories(categories)
    result.findings += found
    files, image_index, sizes, found = _read_images(images, image_folder, boxes, repeated)
    result.findings += found
    result.images = files
    if boxes:
        result.sizes = sizes
    if classes is not None:
        result.findings += check_names(place, str(path), classes, names, file_order=boxes)
    # mmdet counts in the order of the file, the multi-label reader in that of the ids.
    order = range(len(names)) if boxes else sorted(range(len(names)), key=_by_id(category_ids))
    result.classes = tuple(classes) if classes is not None else tuple(names[i] for i in order)

    label = {name: i for i, name in enumerate(result.classes)}
    labels = {category: label.get(name) for category, name in zip(category_ids, names, strict=True)
              if hashable(category)}
    found, targets, image_rows = _read_ids(annotations, labels, image_index, split, boxes)
    result.findings += found
    listed = (targets >= 0) & (image_rows >= 0)
    crowd = np.array([bool(v) and v is not MISSING for v in annotations.column('iscrowd')], bool)
    if boxes:
        found, loaded = _read_boxes(annotations, image_rows, files, sizes, split)
        result.findings += found
        # Regions of crowds are no objects to learn from, nor to find.
        used = (loaded if split == 'train' else np.ones(len(annotations), bool)) & ~crowd
        rows = np.flatnonzero(listed & loaded if split == 'train' else listed)
        result.masks = check_masks(annotations, rows, sizes[image_rows[rows]], split)
    else:
        crowd &= dataset.get('crowd', 'positive') != 'positive'
        used, dataset = ~crowd, dict(dataset, filter_cfg=None)  # which that reader does not read
    used &= listed
    annotated = np.bincount(image_rows[listed], minlength=len(images)) > 0
    found, kept = kept_images(place, dataset, sizes, annotated)
    result.findings += found
    used[listed] &= kept[image_rows[listed]]
    if boxes:
        result.known = Known({i: files[row] for i, row in image_index.items()}, names)
        result.ids = {i: files[row] for i, row in image_index.items() if kept[row]}
    result.few = _few(content, annotations, image_rows, images, choose_few(
        files, kept, np.bincount(image_rows[used], minlength=len(images)), sizes))
    result.counts = np.bincount(targets[used], minlength=len(result.classes))
    result.findings += _left_out(path, annotations, labels)
    result.findings += check_counts(str(path), result.classes, result.counts, split)
    if not used.any() and kept.any() and not (split == 'test' and not len(annotations)):
        result.findings.append(_nothing(path, annotations, split, int(crowd.sum())))
    return result


def _open(path: Union[str, Path], split: str, boxes: bool
          ) -> Tuple[List[Finding], Any, List[Table]]:
    """What is wrong with a file, its content, and its three lists; none if it can not be used."""
    try:
        content = read_json(path)
    except UserError as error:
        return list(as_findings('file', path, [error])), None, []
    findings = list(_check_lists(path, content, split, boxes))
    if any(f.error for f in findings):
        return findings, content, []
    tables = [Table(path, name, content.get(name, ()))
              for name in ('categories', 'images', 'annotations')]
    return [*findings, *(f for table in tables for f in table.no_dicts())], content, tables


def _check_lists(path: Union[str, Path], content: Any, split: str, boxes: bool
                 ) -> Iterator[Finding]:
    """The parts that the file must have."""
    if boxes:
        with open(path, 'rb') as file:
            if file.read(3) == codecs.BOM_UTF8:
                yield Finding('byte order mark', str(path), 'begins with the byte order mark of '
                              'Windows programs, which mmdet does not read: save it as UTF-8 '
                              'without')
    if not isinstance(content, dict):
        yield Finding('no COCO json', str(path), f'is a json {type(content).__name__}: expected an '
                      f'object with {", ".join(LISTS)}')
        return
    if 'data_list' in content and 'images' not in content:
        yield Finding('no COCO json', str(path), 'is the json of OpenMMLab 2.0 (data_list): '
                      + ('expected COCO json' if boxes else "use type='MultiLabelDataset'"))
        return
    for name in LISTS:
        if name not in content:
            if name == 'annotations' and split == 'test':
                yield Finding('no annotations', str(path), 'has no annotations: there will be '
                              'results, and no metrics', error=False)
                continue
            yield Finding(f'no {name}', str(path), f'has no {name}: expected an object with '
                          f'{", ".join(LISTS)}, got {shorten(list(content)) or "nothing"}')
        elif not isinstance(content[name], list):
            yield Finding(f'no {name}', str(path), f'{name} is {shown(content[name])}: expected a '
                          'list')
        elif not content[name] and name == 'annotations' and split == 'test':
            yield Finding('no annotations', str(path), 'has an empty list of annotations: there '
                          'will be results, and no metrics', error=False)
        elif not content[name] and name != 'annotations':
            yield Finding(f'no {name}', str(path), f'has an empty list of {name}: there is nothing '
                          f'to {"learn from" if split == "train" else "evaluate"}')


def _read_categories(table: Table) -> Tuple[List[str], List[Any], List[Finding]]:
    """Names and ids, and what is wrong with them."""
    ids, names = table.column('id'), table.column('name')
    findings = [
        *table.missing('id', ids, 'expected a whole number that annotations refer to as '
                       'category_id'),
        *table.missing('name', names, 'expected the name of the class'),
        *table.of_type('id', ids, (int, str), 'a whole number'),
        *table.of_type('name', names, (str, int), 'a text'),
        *table.blank('name', names),
        *table.repeated('id', ids, 'the one would take the name of the other; give each its own'),
        *table.repeated('name', names, 'mmdet makes two classes of one name and later labels '
                        'shift; unite them')]
    return ['' if n is MISSING else str(n) for n in names], ids, findings


def _read_images(table: Table, folder: Union[str, Path], boxes: bool, repeated: str
                 ) -> Tuple[List[str], Dict[Any, int], np.ndarray, List[Finding]]:
    """Files, row by id, sizes ``(N, 2)``, and what is wrong with them."""
    ids, names = table.column('id'), table.column('file_name')
    if all(n is MISSING for n in names):  # LVIS has the end of the URL
        names = ['/'.join(n.split('/')[-2:]) if isinstance(n, str) else n
                 for n in table.column('coco_url')]
    findings = [
        *table.missing('id', ids, 'expected a number that annotations refer to as image_id'),
        *table.missing('file_name', names, 'expected the file, relative to data_prefix'),
        *table.of_type('id', ids, (int, str), 'a whole number'),
        *table.of_type('file_name', names, (str,), 'a text'),
        *table.blank('file_name', names),
        *table.repeated('id', ids, 'all annotations would go to the last one; give each its own'),
        *([] if repeated == 'join' else table.repeated(
            'file_name', [os.path.normpath(n) if isinstance(n, str) and n else n for n in names],
            'the labels of one image stand in several entries, and each is trained with a part of '
            'them' + ("; repeated='join' unites them" if repeated == 'error' else ''),
            error=repeated == 'error'))]
    sizes = np.stack([numbers(table.column(key)) for key in ('width', 'height')], 1).reshape(-1, 2)
    if boxes:
        for key, values in zip(('width', 'height'), sizes.T, strict=True):
            column = table.column(key)
            findings += table.missing(key, column, 'mmdet needs it; '
                                      + COMPLETE.format(path=table.path))
            for row in np.flatnonzero(~((values > 0) & np.isfinite(values))).tolist():
                if column[row] is not MISSING:
                    findings.append(table.finding(
                        f'{key} of an image', row, f'{key} {shown(column[row])}: expected pixels, '
                        'a number above 0'))
    files = [os.path.join(str(folder), n) if isinstance(n, str) else '' for n in names]
    index = {i: row for row, i in enumerate(ids) if hashable(i)}
    return files, index, sizes, findings


def _read_ids(table: Table, labels: Dict[Any, Optional[int]], image_index: Dict[Any, int],
              split: str, boxes: bool
              ) -> Tuple[List[Finding], np.ndarray, np.ndarray]:
    """Findings; the class of each (-1: none) and the row of its image (-1: none), ``(N,)``."""
    ids, findings = table.column('id'), []
    if boxes:
        findings += table.missing('id', ids, 'mmdet needs one; ' + COMPLETE.format(path=table.path))
        # Evaluation notes ids in an array of numbers.
        findings += table.of_type('id', ids, (int, str) if split == 'train' else (int,),
                                  'a whole number')
        findings += table.repeated('id', ids, 'mmdet stops at this; '
                                   + COMPLETE.format(path=table.path))
        if split != 'train' and 0 in ids:
            findings.append(table.finding(
                'annotation 0', ids.index(0), "id 0 stands for 'not found' in pycocotools, so that "
                'this object counts as missed: number annotations from 1', error=False))
    columns = []
    for key, known, what in (('category_id', labels, 'categories'),
                             ('image_id', image_index, 'images')):
        column = table.column(key)
        findings += table.missing(key, column, f'expected the id of one of the {what}')
        findings += table.of_type(key, column, (int, str), 'a whole number')
        unknown = [row for row, v in enumerate(column) if hashable(v) and v not in known]
        for row in unknown:
            value = column[row]
            other = next((k for k in (str(value), _as_int(value)) if k in known), None)
            findings.append(table.finding(
                f'unknown {key}', row, f'{key} {value!r}: '
                + (f'the id in {what} is {other!r}, a {type(other).__name__}: write both alike'
                   if other is not None else f'no entry of {what} has this id '
                   f'({_range(known)}): the object would be left out')))
        columns.append(np.array([_get(known, v) for v in column], np.int64))
    return findings, *columns


def _read_boxes(table: Table, image_rows: np.ndarray, files: List[str], sizes: np.ndarray,
                split: str) -> Tuple[List[Finding], np.ndarray]:
    """Findings, and which annotations mmdet does not leave out for their box, ``(N,)``."""
    values = table.column('bbox')
    findings = list(table.missing('bbox', values, 'expected x, y, width, height in pixels'))
    found, good = readable_boxes(table, values)
    findings += found
    good &= image_rows >= 0
    rows = np.flatnonzero(good)
    xywh = numbers([v for i in rows for v in values[i]]).reshape(-1, 4)
    of = image_rows[rows]
    boxes = Boxes(table, rows, xywh, sizes[of], _Lookup(files, of))
    findings += check_boxes(boxes)
    areas = table.column('area')
    findings += table.missing('area', areas, 'mmdet needs it; ' + COMPLETE.format(path=table.path))
    area = numbers(areas)
    for row in np.flatnonzero(~((area > 0) & np.isfinite(area))).tolist():
        if areas[row] is MISSING:
            continue
        if area[row] <= 0:
            findings.append(table.finding(
                'area 0', row, f'area {shown(areas[row])}: mmdet leaves out what has no area in '
                'training; ' + COMPLETE.format(path=table.path), error=False))
        else:
            findings.append(table.finding('area', row, f'area {shown(areas[row])}: expected a '
                                          'number of square pixels'))
    crowd = table.column('iscrowd')
    if split != 'train':
        findings += table.missing('iscrowd', crowd, 'evaluation stops without it (0: a single '
                                  'object); ' + COMPLETE.format(path=table.path))
    elif MISSING in crowd:
        count = crowd.count(MISSING)
        findings.append(Finding('no iscrowd', str(table.path), f'{count} of {len(crowd)} '
                                'annotations have no iscrowd: mmdet takes them as 0, single '
                                'objects', error=False))
    if not set(map(repr, crowd)) <= {'0', '1', 'True', 'False', repr(MISSING)}:
        for row, value in enumerate(crowd):
            if value is not MISSING and value not in (0, 1):
                findings.append(table.finding('iscrowd', row, f'iscrowd {shown(value)}: expected '
                                              '0, a single object, or 1, a crowd'))
    used = np.zeros(len(table), bool)
    used[rows] = used_boxes(boxes, area[rows])
    if any(table.column('ignore') if table.records else ()):
        used &= np.array([v is MISSING or not v for v in table.column('ignore')], bool)
    return findings, used


def _left_out(path: Union[str, Path], table: Table, labels: Dict[Any, Optional[int]]
              ) -> Iterator[Finding]:
    """Objects of categories that the config does not list."""
    others = {category for category, label in labels.items() if label is None}
    if not others:
        return
    found = [v for v in table.column('category_id') if hashable(v) and v in others]
    if found:
        yield Finding('categories left out', str(path), f'{len(found)} of {len(table)} annotations '
                      f'are of {len(set(found))} categories that metainfo.classes does not list, '
                      'and are left out', error=False)


def _nothing(path: Union[str, Path], table: Table, split: str, crowds: int) -> Finding:
    count, what = len(table), 'learn' if split == 'train' else 'evaluate'
    why = f'{crowds} are crowds, iscrowd 1, that nothing is learned from and that no prediction ' \
          'counts against' if crowds else 'see the other lines'
    return Finding('no objects', str(path), (
        f'none of its {count} annotations is used ({why})' if count else 'has no annotations')
        + f': there is nothing to {what}')


def _few(content: Dict[str, Any], annotations: Table, image_rows: np.ndarray, images: Table,
         chosen: List[int]) -> Dict[str, Any]:
    """The file with a few of its images alone."""
    rows = np.flatnonzero(np.isin(image_rows, chosen)).tolist()
    return dict(content, images=[images.records[i] for i in chosen],
                annotations=[annotations.records[i] for i in rows])


class _Lookup(Sequence):
    """The file of each box, without a list of them all."""

    def __init__(self, files: List[str], rows: np.ndarray) -> None:
        self.files, self.rows = files, rows

    def __getitem__(self, i: int) -> str:
        return self.files[self.rows[i]]

    def __len__(self) -> int:
        return len(self.rows)


def _by_id(ids: List[Any]) -> Any:
    return lambda i: (isinstance(ids[i], str), ids[i] if hashable(ids[i]) else 0)


def _get(index: Dict[Any, Optional[int]], key: Any) -> int:
    found = index.get(key) if hashable(key) else None
    return -1 if found is None else found


def _as_int(value: Any) -> Any:
    try:
        return int(value)
    except (ValueError, OverflowError):  # text, NaN, infinite
        return value


def _range(ids: Dict[Any, Any]) -> str:
    if ids and set(map(type, ids)) == {int}:
        return f'they go from {min(ids)} to {max(ids)}'
    return f'they are {shorten(list(ids))}'
