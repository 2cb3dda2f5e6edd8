"""Run a detector or a classifier on pictures.

    asl-det infer CHECKPOINT IMAGE [IMAGE ...]
    asl-det infer CONFIG CHECKPOINT FOLDER
"""

import argparse
import sys

from asl_det.commands.command_line import (
    add_batch_size,
    add_device,
    add_overwrite,
    add_threshold,
    split_config,
)
from asl_det.errors import UserError

OLD = {'--anew': '--overwrite', '--thresholds': '--threshold'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('arguments', nargs='+', metavar='[CONFIG] CHECKPOINT IMAGE', help='config '
                        'file (by default the one in the checkpoint), checkpoint, and pictures, '
                        'folders, patterns in quotes, videos or URLs')
    parser.add_argument('--out', metavar='DIR', help='drawn pictures, predictions.json (COCO '
                        'results of all boxes; of classes ranked lists) and predictions.csv (what '
                        'reaches the threshold); default: work_dirs/infer/<checkpoint>. The same '
                        'command again goes on')
    add_threshold(parser, 'score from which a class or box is predicted',
                  'that in the checkpoint, or else the usual one of '
                  'its loss')
    parser.add_argument('--top-k', type=int, metavar='K', help='of a classifier, classes that are '
                        'listed besides the predicted ones (default: 10); of a detector, boxes at '
                        'most (default: all)')
    add_device(parser)
    add_batch_size(parser, 'pictures of one shape that are computed together', 8)
    parser.add_argument('--partial', action='store_true', help='with CONFIG: weights that the '
                        'checkpoint lacks are those which the config names')
    add_overwrite(parser, 'put results in DIR that were made with something else aside')


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from asl_det.inference.infer import infer
    from asl_det.multilabel.thresholds import Thresholds

    config, inputs = split_config(args.arguments)
    if len(inputs) < 2:
        raise UserError('expected [CONFIG] CHECKPOINT IMAGE ...: there is no '
                        + ('image' if inputs else 'checkpoint'))
    checkpoint, *inputs = inputs
    for flag, value in (('--top-k', args.top_k), ('--batch-size', args.batch_size)):
        if value is not None and value < 1:
            raise UserError(f'{flag} {value}: expected a number from 1')
    out = args.out or Path('work_dirs', 'infer', Path(checkpoint).stem)
    thresholds = Thresholds.parse(args.threshold)
    try:
        summary = infer(config, checkpoint, inputs, out=out, thresholds=thresholds,
                        top_k=args.top_k, device=args.device, batch_size=args.batch_size,
                        partial=args.partial, anew=args.overwrite)
    except KeyboardInterrupt:
        sys.exit(f'interrupted: what is finished is in {out}, the same command again goes on')
    redrawn = f', {summary.redrawn} drawn again' if summary.redrawn else ''
    print(f'{summary.computed} pictures computed{redrawn}, {summary.done} kept:')
    for name in ('pictures/', 'predictions.json', 'predictions.csv'):
        print(f'  {summary.folder}/{name}')
    print(summary.predicted)
    if summary.left_out:
        print(f'not taken as pictures, because they are results: {", ".join(summary.left_out)}')
    if summary.unreadable:
        print(f'{len(summary.unreadable)} files could not be read:')
        for line in summary.unreadable:
            print(f'  {line}')
        sys.exit(1)
