"""The checks of annotations and classes, over all data sets of a run."""

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Tuple

from asl_det.preflight.finding import Finding, guarded
from asl_det.preflight.inspect import inspect, is_local
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
