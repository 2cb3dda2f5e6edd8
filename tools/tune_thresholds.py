"""Choose score thresholds, calibrate probabilities, and say what is gained on held-out images.

    python tools/tune_thresholds.py results.scores.npz                # of a classifier
    python tools/tune_thresholds.py results.bbox.json --annotations instances_val.json
    python tools/tune_thresholds.py --compare BCE=a.json,b.json ASL=c.json,d.json   # of reports

The files are what tools/test.py --out wrote. Beside thresholds.json go a report and a figure.
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from rich.console import Console
from rich.table import Table

from asl_det.analysis.calibration import logits_of
from asl_det.analysis.detections import claims_of_boxes
from asl_det.analysis.style import files_of
from asl_det.analysis.threshold_choice import OBJECTIVES, Objective, claims_of_labels
from asl_det.analysis.threshold_report import (
    CALIBRATIONS,
    LABELS,
    compare_table,
    few_positives,
    plot_report,
    tune,
)
from asl_det.commands.command_line import one_line_errors
from asl_det.compat.weights import require_checkpoint
from asl_det.errors import UserError, check_seed
from asl_det.files.code import versions
from asl_det.files.identity import hash_file
from asl_det.files.reading import read_json
from asl_det.files.text import plain_console
from asl_det.files.whole import require_output, write_whole
from asl_det.multilabel.measures import lost_order
from asl_det.multilabel.metric import read_scores
from asl_det.multilabel.thresholds import Thresholds, probability


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', nargs='?', help='<prefix>.scores.npz, or boxes as COCO json')
    parser.add_argument('--annotations', metavar='JSON', help='COCO annotations of the boxes')
    parser.add_argument('--iou', type=float, default=0.5,
                        help='overlap from which a box is right (default: 0.5)')
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument('--maximise', choices=OBJECTIVES[:2], default=OBJECTIVES[0],
                      help='mean F1 of the classes (default), or F1 of all entries together')
    for name, other in (('precision', 'recall'), ('recall', 'precision')):
        goal.add_argument(f'--{name}', type=float, metavar='TARGET',
                          help=f'the highest {other} with at least this {name}')
    parser.add_argument('--calibrate', choices=CALIBRATIONS, default='bias',
                        help='of classifiers: probabilities by a temperature, or a temperature '
                        'and a bias (default), or as they come')
    parser.add_argument('--shrink', type=float, metavar='K', help='a class with n positives has '
                        'n / (n + K) of the threshold that is best for it, and the rest of the '
                        'global one; default: what a cross-validation within the images finds')
    parser.add_argument('--folds', type=int, default=5,
                        help='parts of the images for cross-validation (default: 5)')
    parser.add_argument('--seed', type=int, default=0, help='of the folds')
    parser.add_argument('--fixed', type=float, default=0.5, metavar='T',
                        help='the threshold that is compared with (default: 0.5)')
    parser.add_argument('--out', metavar='thresholds.json',
                        help='default: <prefix>.thresholds.json beside the results')
    parser.add_argument('--checkpoint', help='write the thresholds into this checkpoint, too')
    parser.add_argument('--compare', nargs='+', metavar='NAME=report.json[,report.json...]',
                        help='print a Markdown table of reports that are there')
    args = parser.parse_args()
    if (args.results is None) == (args.compare is None):
        parser.error('give results, or --compare with reports')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.compare:
        print(compare_table(read_reports(args.compare)))
        return
    if importlib.util.find_spec('sklearn') is None:
        raise UserError('tools/tune_thresholds.py needs scikit-learn: '
                        'pip install "asl-det[thresholds]"')
    if args.checkpoint:
        require_checkpoint(args.checkpoint)
    check_seed(args.seed, '--seed')
    probability(args.fixed, '--fixed')
    if not 0 < args.iou <= 1:
        raise UserError(f'--iou {args.iou:g}: expected a number above 0, up to 1')
    if args.shrink is not None and not args.shrink >= 0:
        raise UserError(f'--shrink {args.shrink:g}: expected a number from 0')
    out = Path(args.out or args.results.removesuffix('.npz').removesuffix('.scores')
               .removesuffix('.json') + '.thresholds.json')
    for path in (out, out.with_suffix('.report.json')):
        require_output(path)
    files_of(out.with_suffix(''))
    objective = objective_of(args)
    names, claims, images, calibrate = read_results(args)
    report = tune(names, claims, images, objective=objective, calibrate=calibrate,
                  folds=args.folds, seed=args.seed, shrink=args.shrink, fixed=args.fixed)
    source = dict(results=Path(args.results).name, sha256=hash_file(args.results),
                  objective=report['objective'], shrink=report['shrink'], images=images,
                  versions=versions())
    if args.annotations:
        source.update(annotations=Path(args.annotations).name, iou=args.iou)
    thresholds = Thresholds.from_dict(dict(report['thresholds'], source=source), 'these scores')
    thresholds.save(out)
    written = [out, out.with_suffix('.report.json')]
    write_whole(written[1], json.dumps(dict(report, source=source), indent=2) + '\n')
    written += plot_report(report, out.with_suffix(''))
    if args.checkpoint:
        thresholds.save_in_checkpoint(args.checkpoint)
        written.append(args.checkpoint)
    show(report, plain_console())
    for path in written:
        print(f'written: {path}')


def objective_of(args: argparse.Namespace) -> Objective:
    for name in OBJECTIVES[2:]:
        target = getattr(args, name)
        if target is not None:
            if not 0 < target <= 1:
                raise UserError(f'--{name} {target:g}: expected a number above 0, up to 1')
            return Objective(name, target)
    return Objective(args.maximise)


def read_results(args: argparse.Namespace) -> tuple:
    """Class names, claims, number of images, and how to calibrate."""
    if args.results.endswith('.npz'):
        if args.annotations:
            raise UserError('--annotations is for boxes; scores.npz has its labels inside')
        found = read_scores(args.results)
        if found.scores.shape != found.targets.shape or found.scores.shape[1:] != (
                len(found.classes),):
            raise UserError(f'{args.results}: scores have the shape {found.scores.shape}, targets '
                            f'{found.targets.shape}: expected {len(found.classes)} columns, one a '
                            'class')
        logits = found.logits
        if logits is None:
            logits = logits_of(found.scores)
            say_lost(found.scores[found.targets >= 0], found.targets[found.targets >= 0] == 1,
                     'write the file again with tools/test.py, which puts the logits beside them')
        elif not np.isfinite(logits).all():  # of classes that a model masks
            finite = logits[np.isfinite(logits)]
            logits = np.clip(logits, finite.min(), finite.max())
        return found.classes, claims_of_labels(logits, found.targets), len(logits), args.calibrate
    if not args.annotations:
        raise UserError(f'{args.results} is taken for boxes in COCO\'s result format: give '
                        '--annotations, the json of the images that were tested (scores of a '
                        'classifier end in .scores.npz)')
    # Whether a score of a box is a probability depends on the overlap that is asked for.
    names, claims, images = claims_of_boxes(args.results, args.annotations, args.iou)
    logits, hits = (np.concatenate([getattr(c, name) for c in claims])
                    for name in ('logits', 'hits'))
    # Boxes of score 1, and those of 0, have the logit of logits_of's bounds.
    bounds = logits_of([0.0, 1.0])
    say_lost(np.select([logits <= bounds[0], logits >= bounds[1]], [0.0, 1.0], 0.5), hits,
             'boxes of equal scores are matched in the order of the file')
    return names, claims, images, 'none'


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
            label = 'as they came' if name == 'none' else \
                ', '.join(f'{k} {found[k]:.3f}' for k in ('temperature', 'bias') if found.get(k))
            table.add_row(label or f'{name}: none is best, left alone', f'{found["ece"]:.4f}',
                          f'{found["nll"]:.4f}')
        console.print(table)
    console.print(f'one threshold: {report["thresholds"]["global"]:.4f}')
    few = few_positives(report)
    if few:
        reason = 'held-out images do no better with thresholds of classes' \
            if report['shrink'] is None else \
            f'under {report["shrink"]:g} positives, or a target out of reach'
        console.print(f'mostly or wholly the threshold for all ({reason}): {", ".join(few)}')


if __name__ == '__main__':
    main()
