"""The checks of annotations and classes, over all data sets of a run."""

import os
from typing import Any, Dict, Iterator, List, Tuple

from asl_det.preflight.classes import check_same_classes
from asl_det.preflight.finding import Finding
from asl_det.preflight.inspect import annotation_file, image_folder, inspect, is_remote
from asl_det.preflight.run import Run


def check_annotations(run: Run) -> Iterator[Finding]:
    """What is wrong with the labels of each data set, and between them."""
    classes: List[Tuple[str, Tuple[str, ...]]] = []
    for place, dataset in run.splits():
        missing = list(_check_places(place, dataset, run.cfg.get('how_to_get_data')))
        yield from missing
        if any(f.rule == 'no annotation file' for f in missing):
            continue
        contents = inspect(place, dataset)
        yield from contents.findings
        classes.append((place, contents.classes))
    yield from check_same_classes([(place, names) for place, names in classes if names])
    yield from _check_evaluators(run)


def _check_places(place: str, dataset: Dict[str, Any], hint: Any) -> Iterator[Finding]:
    """Files and folders that are not there."""
    if is_remote(dataset) or not dataset.get('ann_file'):
        return
    hint = hint or 'edit data_root, ann_file and data_prefix'
    path = annotation_file(dataset)
    if not os.path.isfile(path):
        yield Finding('no annotation file', f'{place}.ann_file', f'{path} '
                      + ('is a folder' if os.path.isdir(path) else 'does not exist')
                      + f' (looked for {os.path.abspath(path)}): {hint}')
    folder = image_folder(dataset)
    if folder and not os.path.isdir(folder):
        yield Finding('no image folder', f'{place}.data_prefix', f'{folder} is no folder (looked '
                      f'for {os.path.abspath(folder)}): {hint}')


def _check_evaluators(run: Run) -> Iterator[Finding]:
    """Metrics that compare with another file than the images come from."""
    for place, metric in run.evaluators():
        path = metric.get('ann_file')
        if not path or '://' in path:
            continue
        split = place.partition('_')[0]
        files = [annotation_file(d) for where, d in run.splits() if where.startswith(split)]
        if not os.path.isfile(path):
            yield Finding('no annotation file', f'{place}.ann_file', f'{path} does not exist: give '
                          f'that of the data set{": " + files[0] if files else ""}')
        elif files and os.path.realpath(path) not in map(os.path.realpath, files):
            yield Finding('file of the evaluator', f'{place}.ann_file', f'{path} is not the file '
                          f'of the data set, {files[0]}: results are compared with the objects '
                          'of other images; give both the same')
