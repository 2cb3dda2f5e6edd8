"""Copy a COCO json and fill in what mmdet needs: area, iscrowd, ids, sizes of images.

    asl-det data complete labels.json complete.json --images data/images
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help='COCO json; it stays as it is')
    parser.add_argument('target', metavar='TARGET', help='json to write, a new file')
    parser.add_argument('--images', metavar='DIR', help='folder of the images, needed where sizes '
                        'are missing (default: none)')


def run(args: argparse.Namespace) -> None:
    from asl_det.data.complete_coco import complete_coco

    filled = complete_coco(args.source, args.target, args.images)
    print(f'{args.target}: ' + (', '.join(f'{key} filled in {n} times' for key, n in
                                          filled.items()) or 'nothing was missing'))
