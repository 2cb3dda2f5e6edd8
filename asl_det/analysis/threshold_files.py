"""What asl-det thresholds reads and prints: scores or boxes with their truth, reports, tables."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from rich.console import Console
from rich.table import Table

from asl_det.analysis.calibration import logits_of
from asl_det.analysis.claims import Claims, claims_of_labels
from asl_det.analysis.detections import claims_of_boxes
from asl_det.analysis.style import files_of
from asl_det.analysis.threshold_choice import Objective
from asl_det.analysis.threshold_report import (
    CALIBRATIONS,
    LABELS,
    compare_table,
    few_positives,
    plot_report,
    tune,
)
from asl_det.compat.weights import require_checkpoint
from asl_det.errors import UserError
from asl_det.files.code import versions
from asl_det.files.identity import hash_file
from asl_det.files.reading import read_json
from asl_det.files.text import plain_console
from asl_det.files.whole import require_output, write_whole
from asl_det.multilabel.measures import lost_order
from asl_det.multilabel.metric import read_scores
from asl_det.multilabel.thresholds import Thresholds, probability


def choose(results: str, goal: Tuple[str, Optional[float]], *, annotations: Optional[str],
           iou: float, calibrate: str, shrink: Optional[float], folds: int, seed: int,
           fixed: float, out: Optional[str], checkpoint: Optional[str]) -> List[Union[str, Path]]:
    """Choose thresholds, print what they gain, and write them with a report and a figure.

    Args:
        results: as in :func:`read_results`; annotations and iou too.
        calibrate: as in :func:`asl_det.analysis.threshold_report.tune`.
        goal: an objective of :data:`asl_det.analysis.threshold_choice.OBJECTIVES` and its target.
        shrink: as in :func:`asl_det.analysis.threshold_report.tune`; folds and seed too.
        fixed: the threshold that is compared with, in [0, 1].
        out: json file; None for one beside the results.
        checkpoint: that gets the thresholds, too.

    Returns:
        What was written.

    Raises:
        UserError: for files that are not what is expected, or can not be written.
    """
    if checkpoint:
        require_checkpoint(checkpoint)
    probability(fixed, '--fixed')
    target = Path(out or results.removesuffix('.npz').removesuffix('.scores')
                  .removesuffix('.json') + '.thresholds.json')
    report_file = target.with_suffix('.report.json')
    for path in (target, report_file):
        require_output(path)
    files_of(target.with_suffix(''))
    names, claims, images = read_results(results, annotations, iou)
    report = tune(names, claims, images, objective=Objective(*goal), calibrate=calibrate,
                  folds=folds, seed=seed, shrink=shrink, fixed=fixed)
    source = dict(results=Path(results).name, sha256=hash_file(results),
                  objective=report['objective'], shrink=report['shrink'], images=images,
                  versions=versions())
    if annotations:
        source.update(annotations=Path(annotations).name, iou=iou)
    thresholds = Thresholds.from_dict(dict(report['thresholds'], source=source), 'these scores')
    thresholds.save(target)
    write_whole(report_file, json.dumps(dict(report, source=source), indent=2) + '\n')
    written = [target, report_file, *plot_report(report, target.with_suffix(''))]
    if checkpoint:
        thresholds.save_in_checkpoint(checkpoint)
        written.append(checkpoint)
    show(report, plain_console())
    return written


def read_results(results: str, annotations: Optional[str], iou: float
                 ) -> Tuple[Sequence[str], List[Claims], int]:
    """Class names, claims of each class, and number of images.

    Args:
        results: ``scores.npz`` of a classifier, or boxes as COCO json.
        annotations: COCO json of the boxes.
        iou: overlap from which a box is right, in (0, 1].

    Raises:
        UserError: for files of another kind or shape.
    """
    if results.endswith('.npz'):
        if annotations:
            raise UserError('--annotations is for boxes; scores.npz has its labels inside')
        found = read_scores(results)
        if found.scores.shape != found.targets.shape or found.scores.shape[1:] != (
                len(found.classes),):
            raise UserError(f'{results}: scores have the shape {found.scores.shape}, targets '
                            f'{found.targets.shape}: expected {len(found.classes)} columns, one a '
                            'class')
        logits = found.logits
        if logits is None:
            logits = logits_of(found.scores)
            say_lost(found.scores[found.targets >= 0], found.targets[found.targets >= 0] == 1,
                     'write the file again with asl-det test, which puts the logits beside them')
        return found.classes, claims_of_labels(logits, found.targets), len(logits)
    if not annotations:
        raise UserError(f'{results} is taken for boxes in COCO\'s result format: give '
                        '--annotations, the json of the images that were tested (scores of a '
                        'classifier end in .scores.npz)')
    names, claims, images = claims_of_boxes(results, annotations, iou)
    logits, hits = (np.concatenate([getattr(c, name) for c in claims])
                    for name in ('logits', 'hits'))
    # Boxes of score 1, and those of 0, have the logit of logits_of's bounds.
    bounds = logits_of([0.0, 1.0])
    say_lost(np.select([logits <= bounds[0], logits >= bounds[1]], [0.0, 1.0], 0.5), hits,
             'boxes of equal scores are matched in the order of the file')
    return names, claims, images


def say_lost(scores: np.ndarray, hits: np.ndarray, then: str) -> None:
    lost = lost_order([(scores, hits)])
    if lost:
        print(f'warning: {lost}; {then}')


def read_reports(texts: List[str]) -> Dict[str, List[Dict[str, Any]]]:
    """The reports by the names of ``NAME=report.json[,report.json...]``."""
    models: Dict[str, List[Dict[str, Any]]] = {}
    for text in texts:
        name, _, paths = text.partition('=')
        if not paths:
            raise UserError(f'--compare {text}: expected NAME=report.json')
        if name in models:
            raise UserError(f'--compare {name} is given twice: join its reports by commas')
        models[name] = [read_report(path) for path in paths.split(',')]
    return models


def read_report(path: str) -> Dict[str, Any]:
    report = read_json(path)
    try:
        compare_table({'': [report]})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f'{path} is no report of this command ({error}): expected '
                        '*.report.json') from None
    return report


def show(report: Dict[str, Any], console: Console) -> None:
    columns = ('CP', 'CR', 'CF1', 'mean_class_F1', 'OP', 'OR', 'OF1')
    table = Table('', *columns, title=f'On held-out images ({report["folds"]} folds)')
    for name, found in report['metrics']['cross_validated'].items():
        table.add_row(LABELS[name].format(**report), *(f'{found[c]:.3f}' for c in columns))
    table.add_section()
    found = report['metrics']['same_scores']['classes']
    table.add_row('(one a class, on the scores that chose it)',
                  *(f'{found[c]:.3f}' for c in columns))
    console.print(table)
    if 'calibration' in report:
        table = Table('probabilities', 'ECE', 'NLL', title='Calibration, on held-out images')
        for name, found in report['calibration'].items():
            table.add_row(CALIBRATIONS[name], f'{found["ece"]:.4f}', f'{found["nll"]:.4f}')
        console.print(table)
    console.print(f'one threshold: {report["thresholds"]["global"]:.4f}')
    few = few_positives(report)
    if few:
        reason = 'held-out images do no better with thresholds of classes' \
            if report['shrink'] is None else \
            f'under {report["shrink"]:g} positives, or a target out of reach'
        console.print(f'mostly or wholly the threshold for all ({reason}): {", ".join(few)}')
