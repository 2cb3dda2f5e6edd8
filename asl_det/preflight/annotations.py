"""The checks of annotations and classes, over all data sets of a run."""

import os
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Tuple

from asl_det.preflight.finding import Finding, guarded
from asl_det.preflight.inspect import annotation_file, inspect, is_local
from asl_det.preflight.names import check_same_classes
from asl_det.preflight.run import Run


def check_annotations(run: Run) -> Iterator[Finding]:
    """What is wrong with the labels of each data set, and between them.

    Files that do not exist are left to the check of places.
    """
    classes: List[Tuple[str, Tuple[str, ...]]] = []
    for place, dataset in run.splits():
        if is_local(dataset):
            yield from in_config(run, guarded('check_annotations', place, _check_data_set(
                place, dataset, classes)))
    yield from in_config(run, check_same_classes(classes))
    yield from in_config(run, _check_evaluators(run))


def in_config(run: Run, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Name the config where a finding names one of its keys."""
    for finding in findings:
        inside = finding.where.startswith(('train_', 'val_', 'test_'))
        yield replace(finding, where=f'{run.config}: {finding.where}') if inside else finding


def _check_data_set(place: str, dataset: Dict[str, Any],
                    classes: List[Tuple[str, Tuple[str, ...]]]) -> Iterator[Finding]:
    """The findings of one data set, whose classes are added to those of the others."""
    contents = inspect(place, dataset)
    yield from contents.findings
    if contents.classes:
        classes.append((place, contents.classes))


def _check_evaluators(run: Run) -> Iterator[Finding]:
    """Metrics that compare with another file than the images come from."""
    for place, metric in run.evaluators():
        path = metric.get('ann_file')
        split = place.partition('_')[0]
        files = [annotation_file(d) for where, d in run.splits()
                 if where.startswith(f'{split}_') and is_local(d)]
        if files and path and os.path.isfile(path) and os.path.realpath(path) not in map(
                os.path.realpath, files):
            yield Finding('file of the evaluator', f'{place}.ann_file', f'{path} is not the file '
                          f'of the data set, {files[0]}: results are compared with the objects '
                          'of other images; give both the same')
