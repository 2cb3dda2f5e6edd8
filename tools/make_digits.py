"""Make a digits data set (COCO format) that the digits configs use."""

import argparse
import time

from asl_det.commands.command_line import one_line_errors
from asl_det.data.digits import PRESETS, make_digits


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', nargs='?', help='default: data/digits, or data/digits_multilabel')
    parser.add_argument('--preset', choices=list(PRESETS), default='detection',
                        help='what the other options are where they are not given: canvases for '
                        'configs/digits or for configs/multilabel')
    parser.add_argument('--num-train', type=int)
    parser.add_argument('--num-val', type=int)
    parser.add_argument('--size', type=int, help='side of a canvas in pixels')
    parser.add_argument('--digits-per-image', type=int, nargs=2, metavar=('FEWEST', 'MOST'))
    parser.add_argument('--digit-size', type=int, nargs=2, metavar=('SMALLEST', 'LARGEST'),
                        help='height in pixels')
    parser.add_argument('--max-overlap', type=float, help='share of a box that another may cover')
    parser.add_argument('--clutter', type=int, help='most distracting strokes')
    parser.add_argument('--hide-labels', type=float,
                        help='share of the labels that training does not see')
    parser.add_argument('--hide-boxes', type=float,
                        help='share of the boxes that training does not see, each by itself')
    parser.add_argument('--tuning', action='store_true', default=None,
                        help='validate on held-out scans of training, to choose settings there')
    parser.add_argument('--seed', type=int)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = {name: value for name, value in vars(parse_args()).items() if value is not None}
    settings = {**PRESETS[args.pop('preset')], **args}
    start = time.time()
    written = make_digits(settings.pop('root'), **settings)
    print(f'made in {time.time() - start:.1f} s' if written else 'already there')


if __name__ == '__main__':
    main()
