"""Split a COCO json in two by images: choose settings on one part, keep the test set unseen.

    asl-det data hold-out instances_trainval.json instances_rest.json instances_held-out.json
"""

import argparse

from asl_det.commands.command_line import add_seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help='COCO json; it stays as it is')
    parser.add_argument('rest', metavar='REST', help='json to write, to train on')
    parser.add_argument('held_out', metavar='HELD_OUT', help='json to write, to choose settings on')
    parser.add_argument('--share', type=float, default=0.2,
                        help='of the images that are held out, in (0, 1)')
    add_seed(parser, 'the choice of images')


def run(args: argparse.Namespace) -> None:
    from asl_det.data.coco_json import hold_out

    rest, held = hold_out(args.source, args.rest, args.held_out, args.share, args.seed)
    print(f'{args.rest}: {rest} images, {args.held_out}: {held} images')
