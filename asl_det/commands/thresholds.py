"""Choose score thresholds, calibrate probabilities, and say what is gained on held-out images.

    asl-det thresholds results.scores.npz                # of a classifier
    asl-det thresholds results.bbox.json --annotations instances_val.json
    asl-det thresholds --compare BCE=a.json,b.json ASL=c.json,d.json   # of reports

The files are what asl-det test --out wrote. Beside thresholds.json go a report and a figure.
"""

import argparse

from asl_det.commands.command_line import add_seed
from asl_det.errors import UserError, check_seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('results', nargs='?', metavar='RESULTS',
                        help='<prefix>.scores.npz, or boxes as COCO json (default: none, with '
                        '--compare)')
    parser.add_argument('--annotations', metavar='JSON', help='COCO annotations of the boxes, '
                        'needed for boxes (default: none)')
    parser.add_argument('--iou', type=float, default=0.5, help='overlap from which a box is right')
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument('--maximise', choices=['macro-f1', 'micro-f1'], default='macro-f1',
                      help='mean F1 of the classes, or F1 of all entries together')
    for name, other in (('precision', 'recall'), ('recall', 'precision')):
        goal.add_argument(f'--{name}', type=float, metavar='TARGET', help=f'the highest {other} '
                          f'with at least this {name} (default: --maximise)')
    parser.add_argument('--calibrate', default='best',
                        choices=['best', 'none', 'temperature', 'bias', 'curve', 'classes'],
                        help='probabilities as they come, by a temperature, by a temperature and '
                        'a bias, by a curve, by a curve and then a temperature and a bias of each '
                        'class, or by what is best on held-out images')
    parser.add_argument('--shrink', type=float, metavar='K', help='a class with n positives has '
                        'n / (n + K) of the threshold that is best for it, and the rest of the '
                        'global one; default: what a cross-validation within the images finds')
    parser.add_argument('--folds', type=int, default=5, metavar='N',
                        help='parts of the images for cross-validation')
    add_seed(parser, 'the folds')
    parser.add_argument('--fixed', type=float, default=0.5, metavar='T',
                        help='the threshold that is compared with')
    parser.add_argument('--out', metavar='thresholds.json',
                        help='default: <prefix>.thresholds.json beside the results')
    parser.add_argument('--checkpoint', metavar='FILE', help='write the thresholds into this '
                        'checkpoint, too (default: into none)')
    parser.add_argument('--compare', nargs='+', metavar='NAME=report.json[,report.json...]',
                        help='print a Markdown table of reports that are there (default: choose)')


def run(args: argparse.Namespace) -> None:
    if (args.results is None) == (args.compare is None):
        raise UserError('expected RESULTS, or --compare with reports')
    if args.compare:
        from asl_det.analysis.threshold_files import read_reports
        from asl_det.analysis.threshold_report import compare_table
        print(compare_table(read_reports(args.compare)))
        return
    from asl_det.analysis.threshold_files import choose

    check_seed(args.seed, '--seed')
    if not 0 < args.iou <= 1:
        raise UserError(f'--iou {args.iou:g}: expected a number above 0, up to 1')
    if args.shrink is not None and not args.shrink >= 0:
        raise UserError(f'--shrink {args.shrink:g}: expected a number from 0')
    goal = next(((name, getattr(args, name)) for name in ('precision', 'recall')
                 if getattr(args, name) is not None), (args.maximise, None))
    if goal[1] is not None and not 0 < goal[1] <= 1:
        raise UserError(f'--{goal[0]} {goal[1]:g}: expected a number above 0, up to 1')
    for path in choose(args.results, goal, annotations=args.annotations, iou=args.iou,
                       calibrate=args.calibrate, shrink=args.shrink, folds=args.folds,
                       seed=args.seed, fixed=args.fixed, out=args.out, checkpoint=args.checkpoint):
        print(f'written: {path}')
