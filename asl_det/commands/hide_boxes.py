"""Write a COCO json without a share of its boxes, as if nobody had annotated them.

    asl-det data hide-boxes instances_train.json instances_train_hidden40.json --share 0.4
"""

import argparse

from asl_det.commands.command_line import add_seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help='COCO json; it stays as it is')
    parser.add_argument('target', metavar='TARGET', help='json to write')
    parser.add_argument('--share', type=float, required=True, help='of the boxes, in [0, 1)')
    add_seed(parser, 'the choice of boxes')


def run(args: argparse.Namespace) -> None:
    from asl_det.data.coco_json import write_hidden

    hidden = write_hidden(args.source, args.target, args.share, args.seed)
    print(f'{args.target}: {hidden} boxes are hidden')
