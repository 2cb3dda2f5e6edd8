"""Write a COCO json without a share of its boxes, as if nobody had annotated them.

    python tools/hide_boxes.py instances_train.json instances_train_hidden40.json --share 0.4
"""

import argparse

from asl_det.commands.command_line import one_line_errors
from asl_det.data.coco_json import write_hidden


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='COCO json')
    parser.add_argument('target', help='json to write')
    parser.add_argument('--share', type=float, required=True, help='of the boxes, in [0, 1)')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    hidden = write_hidden(args.source, args.target, args.share, args.seed)
    print(f'{args.target}: {hidden} boxes are hidden')


if __name__ == '__main__':
    main()
