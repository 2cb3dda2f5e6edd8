"""The checks of annotations and classes, over all data sets of a run."""

import json
import os
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
from mmengine.dataset import BaseDataset

from asl_det.errors import UserError
from asl_det.multilabel.datasets import CocoMultiLabelDataset, MultiLabelDataset
from asl_det.preflight.class_names import (
    Names,
    check_counts,
    check_same_classes,
    configured_classes,
)
from asl_det.preflight.coco_annotations import read_coco
from asl_det.preflight.columns import as_findings
from asl_det.preflight.filters import by_indices, choose_few
from asl_det.preflight.finding import Contents, Finding, guarded
from asl_det.preflight.run import Run
from asl_det.preflight.voc_annotations import read_voc
from asl_det.registry import DATASETS, class_of, without_pipeline


def check_annotations(run: Run) -> Iterator[Finding]:
    """What is wrong with the labels of each data set, and between them.

    Files that do not exist are left to the check of places.
    """
    classes: List[Tuple[str, Tuple[str, ...]]] = []
    for place, dataset in run.splits():
        if is_local(dataset):
            yield from in_config(run, guarded('check_annotations', place, _check_data_set(
                run, place, dataset, classes)))
    yield from in_config(run, check_same_classes(classes))


def in_config(run: Run, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Name the config where a finding names one of its keys."""
    for finding in findings:
        inside = finding.where.startswith(('train_', 'val_', 'test_'))
        yield replace(finding, where=f'{run.config}: {finding.where}') if inside else finding


def _check_data_set(run: Run, place: str, dataset: Dict[str, Any],
                    classes: List[Tuple[str, Tuple[str, ...]]]) -> Iterator[Finding]:
    """The findings of one data set, whose classes are added to those of the others."""
    contents = inspect(place, dataset)
    yield from contents.findings
    if uses_masks(run, place, dataset):
        yield from contents.masks
    if contents.classes:
        classes.append((place, contents.classes))


def uses_masks(run: Run, place: str, dataset: Dict[str, Any]) -> bool:
    """Whether the pipeline of a data set loads masks, or a metric of its split compares them."""
    if any(isinstance(step, dict) and step.get('with_mask') for step in
           dataset.get('pipeline') or ()):
        return True
    split = place.partition('_')[0]
    return any('segm' in (metric.get('metric') or ()) for _, metric in run.metrics(split))


_SEEN: Dict[Tuple[Any, ...], Contents] = {}  # checks of labels and of images read a file once
MOST_SEEN = 16


def inspect(place: str, dataset: Dict[str, Any]) -> Contents:
    """What the annotations of a data set hold, and what is wrong with them.

    mmdet's COCO and VOC and all multi-label data sets are read here. Any other
    is built, and the error that it ends with is the finding.

    Args:
        place: dotted key, which begins with the split.
        dataset: config of a data set without wrappers, whose file is there.
    """
    path = annotation_file(dataset)
    stamp = os.stat(path)
    key = (place, json.dumps(dataset, default=repr, sort_keys=True), os.getcwd(),
           stamp.st_mtime_ns, stamp.st_size)
    if key not in _SEEN:
        while len(_SEEN) >= MOST_SEEN:
            del _SEEN[next(iter(_SEEN))]
        _SEEN[key] = _inspect(place, dataset, path)
    return _SEEN[key]


def count_labels(run: Run) -> Tuple[int, int]:
    """Images and labels (boxes, or classes of images) of all data sets whose files are here.

    Only of a run without errors; data sets that only mmdet reads have no count.
    """
    contents = [inspect(place, dataset) for place, dataset in run.splits() if is_local(dataset)]
    return (sum(len(c.images) for c in contents),
            sum(int(c.counts.sum()) for c in contents if c.counts is not None))


def annotation_file(dataset: Dict[str, Any]) -> str:
    """The file that ``ann_file`` names under ``data_root``, or ''."""
    path = dataset.get('ann_file') or ''
    return path if '://' in path else os.path.join(dataset.get('data_root') or '', path)


def is_local(dataset: Dict[str, Any]) -> bool:
    """Whether the annotations are a file, or folder, that is there; storage backends are not."""
    return bool(dataset.get('ann_file')) and not dataset.get('backend_args') and os.path.exists(
        annotation_file(dataset))


def _inspect(place: str, dataset: Dict[str, Any], path: str) -> Contents:
    kind = _class_of(dataset)
    if kind is None:
        return Contents()
    split = place.partition('_')[0]
    found, classes = configured_classes(place, dataset.get('metainfo'), _default_classes(kind),
                                        texts=not issubclass(kind, MultiLabelDataset))
    if any(f.error for f in found):
        return Contents(found)
    if not issubclass(kind, MultiLabelDataset):
        if _reads_coco(kind):
            result = read_coco(path, classes, image_folder(dataset), split=split, place=place,
                               dataset=dataset)
        elif _reads_voc(kind):
            result = read_voc(path, classes or (), dataset, split=split, place=place)
        else:
            result = _build(dataset, kind, place)
    elif issubclass(kind, CocoMultiLabelDataset):
        result = read_coco(path, classes, image_folder(dataset), split='test' if dataset.get(
            'test_mode') and split != 'val' else split, boxes=False, place=place, dataset=dataset,
            repeated=dataset.get('repeated', 'error'))
    else:
        result = _read_multilabel(dataset, path, split, place)
    result.findings[:0] = found
    return result


def image_folder(dataset: Dict[str, Any]) -> str:
    """The folder of the images: ``img`` or ``img_path`` of ``data_prefix`` under ``data_root``."""
    prefix = dataset.get('data_prefix') or {}
    return os.path.join(dataset.get('data_root') or '', prefix.get('img') or prefix.get(
        'img_path') or '')


def _class_of(dataset: Dict[str, Any]) -> Any:
    kind = class_of(DATASETS, dataset.get('type'))
    return kind if isinstance(kind, type) and issubclass(kind, BaseDataset) else None


def _default_classes(kind: type) -> Names:
    return kind.METAINFO.get('classes')


def _reads_coco(kind: Any) -> bool:
    """Whether a data set reads COCO json as mmdet's own does."""
    coco = DATASETS.get('CocoDataset')
    return issubclass(kind, coco) and all(getattr(kind, name) is getattr(coco, name) for name in (
        'load_data_list', 'parse_data_info', 'COCOAPI'))


def _reads_voc(kind: Any) -> bool:
    voc = DATASETS.get('XMLDataset')
    return issubclass(kind, voc) and all(getattr(kind, name) is getattr(voc, name) for name in (
        'load_data_list', 'parse_data_info', '_parse_instance_info'))


def _read_multilabel(dataset: Dict[str, Any], path: str, split: str, place: str) -> Contents:
    """The reader itself, with the mistakes in all rows."""
    result = Contents()
    try:
        data = DATASETS.build(dict(dataset, pipeline=[], lazy_init=True, broken_images='error'))
        data.mistakes = []
        try:
            data.data_list = data.load_data_list()
        finally:
            result.findings += as_findings('labels', path, data.mistakes)
        result.images = [record['img_path'] for record in data.data_list]
        result.classes = tuple(data.classes)
        if not data.mistakes:
            data.data_list = data.filter_data()
        found, chosen = by_indices(place, dataset, len(data.data_list))
        result.findings += found
        data.data_list = [data.data_list[i] for i in chosen]
        numbers = np.array([len(record['positives']) for record in data.data_list], np.int64)
        positives = [label for record in data.data_list for label in record['positives']]
        result.counts = np.bincount(np.array(positives, np.int64), minlength=len(result.classes))
        result.few = data
        data.data_list = [data.data_list[i] for i in choose_few(
            [r['img_path'] for r in data.data_list], numbers >= 0, numbers)]
        data.serialize_data, data._fully_initialized = False, True
        if result.counts.any() or not data.test_mode:
            result.findings += check_counts(path, result.classes, result.counts, split, 'image')
    except UserError as error:
        result.findings += as_findings('labels', path, [error])
    return result


def _build(dataset: Dict[str, Any], kind: type, place: str) -> Contents:
    """A data set that only its own class can read."""
    result, objects = Contents(), []
    try:
        data = DATASETS.build(without_pipeline(dataset, type=kind))
        images = []
        for i in range(len(data)):
            info = data.get_data_info(i)
            images.append(info.get('img_path'))
            objects.append(_labels(info))
        result.images, result.classes = images, tuple(data.metainfo.get('classes') or ())
        if not images:
            raise UserError('no image is left')
    except Exception as error:  # whatever a reader fails with
        nothing = 'need at least one array to concatenate' in str(error)  # mmengine's of no image
        why = 'no image is left by filter_cfg and indices' if nothing else (
            f'{type(error).__name__}: {error}')
        options = isinstance(error, TypeError) and 'argument' in str(error)
        result.findings.append(Finding('data set', place, f'{kind.__name__} can not ' + (
            f'be built ({why}): check its options' if options else
            f'read {annotation_file(dataset)} ({why}): check that the file has the format of '
            'this type')))
        return result
    if all(labels is not None for labels in objects):
        result.counts = np.bincount([label for labels in objects for label in labels],
                                    minlength=len(result.classes))
        if not result.counts.any() and place.startswith('train'):
            result.findings.append(Finding(
                'no objects', annotation_file(dataset), f'{kind.__name__} finds no object that '
                'counts (of the classes, not ignored): there is nothing to learn'))
    if all(isinstance(name, str) for name in images):
        numbers = np.array([len(labels or '') for labels in objects])
        data.get_subset_(choose_few(images, numbers >= 0, numbers))
        result.few = data
    return result


def _labels(info: Dict[str, Any]) -> Optional[List[int]]:
    """The classes of the objects of an image that are not ignored; None where it has no boxes."""
    try:
        return [int(thing['bbox_label']) for thing in info['instances']
                if not thing.get('ignore_flag')]
    except (KeyError, TypeError, ValueError):
        return None


def image_files(contents: Contents) -> List[str]:
    return [name for name in contents.images if isinstance(name, str) and name]
