"""Make the digits data set (COCO format) that the configs in configs/digits use."""

import argparse
import time

from asl_det.cli import one_line_errors
from asl_det.datasets.digits import make_digits


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', nargs='?', default='data/digits', help='default: %(default)s')
    parser.add_argument('--num-train', type=int, default=1000)
    parser.add_argument('--num-val', type=int, default=300)
    parser.add_argument('--size', type=int, default=160, help='side of a canvas in pixels')
    parser.add_argument('--digits-per-image', type=int, nargs=2, default=(2, 6),
                        metavar=('FEWEST', 'MOST'))
    parser.add_argument('--digit-size', type=int, nargs=2, default=(20, 56),
                        metavar=('SMALLEST', 'LARGEST'), help='height in pixels')
    parser.add_argument('--max-overlap', type=float, default=0.1,
                        help='share of a box that another may cover')
    parser.add_argument('--clutter', type=int, default=6, help='most distracting strokes')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = vars(parse_args())
    start = time.time()
    written = make_digits(args.pop('root'), **args)
    print(f'made in {time.time() - start:.1f} s' if written else 'already there')


if __name__ == '__main__':
    main()
