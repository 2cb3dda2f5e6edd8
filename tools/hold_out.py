"""Split a COCO json in two by images: choose settings on one part, keep the test set unseen.

    python tools/hold_out.py instances_trainval.json instances_rest.json instances_held-out.json
"""

import argparse

from asl_det.commands.command_line import one_line_errors
from asl_det.data.coco_json import hold_out


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='COCO json')
    parser.add_argument('rest', help='json to write, to train on')
    parser.add_argument('held_out', help='json to write, to choose settings on')
    parser.add_argument('--share', type=float, default=0.2,
                        help='of the images that are held out, in (0, 1); default: 0.2')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    rest, held = hold_out(args.source, args.rest, args.held_out, args.share, args.seed)
    print(f'{args.rest}: {rest} images, {args.held_out}: {held} images')


if __name__ == '__main__':
    main()
