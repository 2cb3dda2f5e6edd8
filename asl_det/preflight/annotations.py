"""The checks of annotations and classes, over all data sets of a run."""

import os
from dataclasses import replace
from typing import Iterator, List, Tuple

from asl_det.preflight.finding import Finding
from asl_det.preflight.inspect import annotation_file, inspect, is_local
from asl_det.preflight.names import check_same_classes
from asl_det.preflight.run import Run


def check_annotations(run: Run) -> Iterator[Finding]:
    """What is wrong with the labels of each data set, and between them.

    Files that do not exist are left to the check of places.
    """
    yield from in_config(run, _check_data_sets(run))
    yield from in_config(run, _check_evaluators(run))


def in_config(run: Run, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Name the config where a finding names one of its keys."""
    for finding in findings:
        inside = finding.where.startswith(('train_', 'val_', 'test_'))
        yield replace(finding, where=f'{run.config}: {finding.where}') if inside else finding


def _check_data_sets(run: Run) -> Iterator[Finding]:
    classes: List[Tuple[str, Tuple[str, ...]]] = []
    for place, dataset in run.splits():
        if is_local(dataset):
            contents = inspect(place, dataset)
            yield from contents.findings
            classes.append((place, contents.classes))
    yield from check_same_classes([(place, names) for place, names in classes if names])


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
