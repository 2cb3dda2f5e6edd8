"""Metrics against the images that their loader yields: the same ids, files and classes."""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from asl_det.config.walk import open_wrappers, wrapped
from asl_det.errors import UserError
from asl_det.files.nested import dicts
from asl_det.files.reading import read_json
from asl_det.multilabel.datasets.dataset import shorten
from asl_det.preflight.annotations import annotation_file, inspect, is_local
from asl_det.preflight.finding import Contents, Finding, Known
from asl_det.preflight.run import SPLITS, Run
from asl_det.registry import METRICS, lookup, type_name

SEPARATE = ("give evaluator=dict(type='MultiDatasetsEvaluator', metrics=[one of each data set], "
            'dataset_prefixes=[...]), which judges each data set by its own')


@dataclass
class Part:
    """A data set that a loader reads: place, config, and what its annotations hold."""
    place: str
    node: Dict[str, Any]
    contents: Contents

    @property
    def file(self) -> str:
        return annotation_file(self.node)


def check_evaluators(run: Run) -> Iterator[Finding]:
    """Whether each metric knows all images whose predictions it is given, and no others."""
    for split in SPLITS[run.purpose]:
        loader, metrics = run.cfg.get(f'{split}_dataloader'), run.metrics(split)
        data = loader.get('dataset') if isinstance(loader, dict) else None
        if isinstance(data, dict) and metrics:
            yield from _check_split(run, split, loader, metrics)


def _check_split(run: Run, split: str, loader: Dict[str, Any], metrics: Sequence[Any]
                 ) -> Iterator[Finding]:
    key, data = f'{run.config}: {split}_evaluator', loader['dataset']
    place = f'{split}_dataloader.dataset'
    node = run.cfg[f'{split}_evaluator']
    if isinstance(node, dict) and 'dataset_prefixes' in node:
        groups = [(f'{place}.datasets.{i}', child) for i, child in enumerate(
            data.get('datasets') or ())]
        yield from _check_slices(key, place, loader, groups, metrics, node['dataset_prefixes'])
        for (where, metric), (child_place, child) in zip(metrics, groups, strict=False):
            yield from _check_metric(run, where, metric, _parts(child_place, child))
        return
    yield from _same_names(key, metrics)
    parts = _parts(place, data)
    yield from _same_meta(run, parts, list(_ignored(data)))
    for where, metric in metrics:
        yield from _check_metric(run, where, metric, parts)


def _parts(place: str, node: Any) -> List[Part]:
    parts = []
    for where, dataset in open_wrappers(place, node):
        contents = Contents()
        if is_local(dataset):
            with suppress(Exception):  # said by the check of annotations
                contents = inspect(where, dataset)
        parts.append(Part(where, dataset, contents))
    return parts


def _check_slices(key: str, place: str, loader: Dict[str, Any], groups: Sequence[Any],
                  metrics: Sequence[Any], prefixes: Sequence[str]) -> Iterator[Finding]:
    """MultiDatasetsEvaluator gives the i-th metric the predictions of the i-th data set."""
    if not groups:
        yield Finding('evaluator', key, f'MultiDatasetsEvaluator needs a ConcatDataset at {place}, '
                      f'which is a {type_name(loader["dataset"])}: give the metric '
                      'alone')
    elif not len(groups) == len(prefixes) == len(metrics):
        yield Finding('evaluator', key, f'has {len(metrics)} metrics and {len(prefixes)} '
                      f'dataset_prefixes for the {len(groups)} data sets of {place}: give as many')
    if (loader.get('sampler') or {}).get('shuffle'):
        yield Finding('evaluator', f'{key.partition(":")[0]}: {place.partition(".")[0]}'
                      '.sampler.shuffle', 'mixes the data sets, and MultiDatasetsEvaluator tells '
                      'them apart by their order: set it to False')
    names = [(prefix, *_reports(metric)[:2]) for prefix, (_, metric) in zip(
        prefixes, metrics, strict=False)]
    for name, count in Counter(names).items():
        if count > 1:
            yield Finding('evaluator', f'{key}.dataset_prefixes', f'{name[0]!r} stands there '
                          f'{count} times, so that results would have one name, which ends the '
                          'evaluation: give each data set its own')


def _same_names(key: str, metrics: Sequence[Any]) -> Iterator[Finding]:
    """Two metrics that report under one name end the first evaluation."""
    for i, (where, metric) in enumerate(metrics):
        kind, prefix, names = _reports(metric)
        for other, earlier in metrics[:i]:
            if _reports(earlier)[:2] == (kind, prefix) and names & _reports(earlier)[2]:
                yield Finding('evaluator', f'{key.partition(":")[0]}: {where}',
                              f'{type_name(metric)} reports under the names of {other}, '
                              'which ends the evaluation: give each a prefix of its own; or, if '
                              f'each is for one of several data sets, {SEPARATE}')
                break


def _reports(metric: Dict[str, Any]) -> Tuple[str, Any, frozenset]:
    """Type, prefix, and which kinds of result a metric reports."""
    what = metric.get('metric', 'bbox')
    kinds = [what] if isinstance(what, str) else list(what)
    if metric.get('classwise'):  # AP of classes has the name of the class alone
        kinds = [*kinds, 'classwise']
    return type_name(metric), metric.get('prefix'), frozenset(map(str, kinds))


def _same_meta(run: Run, parts: Sequence[Part], ignored: List[str]) -> Iterator[Finding]:
    """Where metainfo differs, ConcatDataset hands over a list, which a metric does not read."""
    found = [(part.place, getattr(run.load(part.place, part.node, lazy=True), 'metainfo', None))
             for part in parts]
    known = [(place, meta) for place, meta in found if isinstance(meta, dict)]
    for place, meta in known[1:]:
        first, names = known[0]
        different = [k for k in {**names, **meta} if k not in ('classes', *ignored)
                     and _differ(names.get(k), meta.get(k))]
        if different:
            yield Finding('evaluator', f'{run.config}: {place}.metainfo', f'{shorten(different)} '
                          f'is not that of {first}, so that ConcatDataset has no metainfo that '
                          'the metric can read: give both the same, or '
                          f'ignore_keys={[*ignored, *different]}')


def _ignored(node: Any) -> Iterator[str]:
    """The ``ignore_keys`` of the wrappers of a data set."""
    for _, part in dicts(node):
        keys = part.get('ignore_keys') or () if wrapped(part) else ()
        yield from [keys] if isinstance(keys, str) else keys


def _differ(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except ValueError:  # arrays, or what holds some
        try:
            np.testing.assert_equal(one, other)
        except AssertionError:
            return True
        return False


def _check_metric(run: Run, where: str, metric: Dict[str, Any], parts: Sequence[Part]
                  ) -> Iterator[Finding]:
    """A metric of COCO's against the images of some data sets."""
    kind = lookup(METRICS, metric) if 'type' in metric else None
    if 'CocoMetric' not in [c.__name__ for c in getattr(kind, '__mro__', ())]:
        return
    if not parts or any(part.contents.ids is None or any(
            f.error for f in part.contents.findings) for part in parts):
        return
    where = f'{run.config}: {where}'
    yield from _same_ids(where, parts)
    path = metric.get('ann_file')
    if not path or metric.get('backend_args') or not os.path.isfile(path):
        return
    used = [part for part in parts if os.path.realpath(part.file) == os.path.realpath(path)]
    others = [file for split in ('train', 'val', 'test') for _, d in run.data_sets(split)
              if is_local(d) and (file := annotation_file(d))]
    if not used and os.path.realpath(path) in map(os.path.realpath, others):
        yield Finding('file of the evaluator', f'{where}.ann_file', f'{path} is not the file of '
                      f'the data set, {parts[0].file}, but that of another: results are compared '
                      'with the objects of other images; give both the same')
        return
    known = used[0].contents.known if used else _read_known(path)
    if known is not None:
        yield from _compare(f'{where}.ann_file', path, known, parts,
                            not metric.get('sort_categories'))


def _same_ids(where: str, parts: Sequence[Part]) -> Iterator[Finding]:
    """Images of two files under one id."""
    seen: Dict[Any, Tuple[str, Part]] = {}
    for part in parts:
        for number, name in part.contents.ids.items():
            other, first = seen.setdefault(number, (name, part))
            if first is not part and first.file != part.file:
                yield Finding('evaluator', where, f'image id {number!r} is that of {other} in '
                              f'{first.file} and of {name} in {part.file}: the metric would take '
                              f'them for one image; {SEPARATE}, or number the images of all files '
                              'differently, in the merged json too')
                return


def _read_known(path: str) -> Any:
    """What a file that is no data set's holds; None if it is no COCO json, which it says itself."""
    try:
        content = read_json(path)
        return Known({image['id']: image.get('file_name', '') for image in content['images']},
                     [str(category['name']) for category in content['categories']])
    except (UserError, KeyError, TypeError):
        return None


def _compare(where: str, path: str, known: Known, parts: Sequence[Part], classes: bool
             ) -> Iterator[Finding]:
    """The images of the loader against those of the metric's file."""
    yielded = {number: (name, part) for part in parts
               for number, name in part.contents.ids.items()}
    unknown = [number for number in yielded if number not in known.images]
    other = [number for number, (name, _) in yielded.items() if number not in unknown
             and '' not in (names := (name, str(known.images[number])))
             and len(set(map(os.path.basename, names))) > 1]
    advice = (f'; each metric of a list judges all images of the loader: {SEPARATE}, or give one '
              'metric the merged json' if len(parts) > 1 else ': give it the file of the data set')
    if unknown:
        part = yielded[unknown[0]][1]
        yield Finding('file of the evaluator', where, f'{path} has no image {unknown[0]!r}, '
                      f'{yielded[unknown[0]][0]} of {part.file}, and {len(unknown)} of '
                      f'{len(yielded)} in all: the evaluation stops at predictions for them'
                      + advice)
    elif other:
        name, part = yielded[other[0]]
        yield Finding('file of the evaluator', where, f'image {other[0]!r} is '
                      f'{known.images[other[0]]} in {path} and {name} in {part.file}, and so are '
                      f'{len(other)} of {len(yielded)}: results are compared with the objects of '
                      'other images' + advice)
    elif len(known.images) > len(yielded):
        yield Finding('file of the evaluator', where, f'{len(known.images) - len(yielded)} of the '
                      f'{len(known.images)} images of {path} are not in the loader: all objects in '
                      'them count as missed, and AP is too low', error=False)
    expected = parts[0].contents.classes
    found = [name for name in known.classes if name in expected]
    if classes and found != list(expected):
        yield Finding('file of the evaluator', where, f'{path} has the classes '
                      f'{shorten(found) or "of another data set"} in this order, and the data set '
                      f'has {shorten(expected)}: predictions would count for other classes')
