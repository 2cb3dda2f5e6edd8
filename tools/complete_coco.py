"""Copy a COCO json and fill in what mmdet needs: area, iscrowd, ids, sizes of images.

    python tools/complete_coco.py labels.json complete.json --images data/images
"""

import argparse

from asl_det.commands.command_line import one_line_errors
from asl_det.data.complete_coco import complete_coco


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='COCO json; it stays as it is')
    parser.add_argument('target', help='new file')
    parser.add_argument('--images', metavar='FOLDER', help='needed where sizes are missing')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    filled = complete_coco(args.source, args.target, args.images)
    print(f'{args.target}: ' + (', '.join(f'{key} filled in {n} times' for key, n in
                                          filled.items()) or 'nothing was missing'))


if __name__ == '__main__':
    main()
