"""Make a data set of handwritten digits (COCO format), which the configs of digits/ use.

    asl-det data digits
    asl-det data digits --preset multilabel
"""

import argparse

from asl_det.commands.command_line import add_image_size, read_image_size

NEXT = {'detection': 'asl_det::digits/retinanet_r18-w16_fpn_asl-800i_digits.py',
        'multilabel': 'asl_det::multilabel/resnet18-w16_asl_digits.py'}  # config of each preset
OLD = {'--size': '--image-size'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('root', nargs='?', metavar='DIR',
                        help='default: data/digits, or data/digits_multilabel')
    parser.add_argument('--preset', choices=['detection', 'multilabel'], default='detection',
                        help='what the other options are by default: pictures for detectors, or '
                        'smaller ones for classifiers (default: %(default)s)')
    parser.add_argument('--num-train', type=int, metavar='N',
                        help='pictures to train on (default: 1000, of multilabel 4000)')
    parser.add_argument('--num-val', type=int, metavar='N',
                        help='pictures to validate on (default: 300, of multilabel 1000)')
    add_image_size(parser, 'of a picture, a square,', '160, of multilabel 64')
    parser.add_argument('--digits-per-image', type=int, nargs=2, metavar=('FEWEST', 'MOST'),
                        help='default: 2 6, of multilabel 1 3')
    parser.add_argument('--digit-size', type=int, nargs=2, metavar=('SMALLEST', 'LARGEST'),
                        help='height in pixels (default: 20 56, of multilabel 20 32)')
    parser.add_argument('--max-overlap', type=float, metavar='SHARE',
                        help='share of a box that another may cover (default: 0.1)')
    parser.add_argument('--clutter', type=int, metavar='N',
                        help='most distracting strokes (default: 6, of multilabel 2)')
    parser.add_argument('--hide-labels', type=float, metavar='SHARE',
                        help='share of the labels that training does not see (default: 0)')
    parser.add_argument('--hide-boxes', type=float, metavar='SHARE', help='share of the boxes that '
                        'training does not see, each by itself (default: 0)')
    parser.add_argument('--tuning', action='store_true', default=None,
                        help='validate on held-out scans of training, to choose settings there')
    parser.add_argument('--seed', type=int, metavar='N', help='of the pictures (default: 0)')


def run(args: argparse.Namespace) -> None:
    import time
    from shlex import quote

    from asl_det.data.digits import PRESETS, SPLITS, make_digits
    from asl_det.files.reading import read_json

    given = {name: value for name, value in vars(args).items() if value is not None}
    if args.image_size:
        given['size'], _ = read_image_size(given.pop('image_size'), square=True)
    settings = {**PRESETS[args.preset], **given}
    settings.pop('preset')
    root = settings.pop('root')
    start = time.time()
    written = make_digits(root, **settings)
    train, val = (len(read_json(f'{root}/instances_{split}.json')['images']) for split in SPLITS)
    print(f'{root}: {train:,} images to train on, {val:,} to validate on, '
          + (f'made in {time.time() - start:.1f} s' if written else 'already there'))
    place = '' if root == PRESETS[args.preset]['root'] else f' --data-root {quote(root)}'
    print(f'next: asl-det train {NEXT[args.preset]}{place}')
