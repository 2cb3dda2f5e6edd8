"""Convert an official checkpoint of ASL or ML-Decoder (TResNet) to one of our classifier.

    asl-det convert MS_COCO_TRresNet_L_448_86.6.pth tresnet_l.pth
    asl-det infer tresnet_l.pth IMAGE
"""

import argparse

from asl_det.commands.command_line import (
    add_classes,
    add_image_size,
    add_threshold,
    read_classes,
    read_image_size,
)
from asl_det.errors import UserError

OLD = {'--input-size': '--image-size'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help='file or URL, loaded by allow-list')
    parser.add_argument('out', metavar='OUT',
                        help='the file to write: weights, config, class names, threshold')
    add_classes(parser, 'in the order of the network', 'idx_to_class of the file')
    add_threshold(parser, 'probability from which a class is predicted, one for all classes',
                  "the reference's 0.7, Open Images 0.995")
    add_image_size(parser, 'of the square that images are resized to', '448')


def run(args: argparse.Namespace) -> None:
    from asl_det.inference.convert import convert
    from asl_det.multilabel.thresholds import Thresholds

    threshold = Thresholds.parse(args.threshold)
    if isinstance(threshold, Thresholds):
        raise UserError(f'--threshold {args.threshold}: expected a number, one for all classes')
    size = read_image_size(args.image_size, square=True) or (448, 448)
    done = convert(args.source, args.out, threshold=threshold, image_size=size[0],
                   classes=read_classes(args.classes))
    print(f'{done.network}, {done.head}, {len(done.classes)} classes ({done.classes[0]}, ...), '
          f'input {size[0]} px, threshold {done.threshold:g}')
    for theirs, ours, count in done.groups:
        print(f'  {count:4d} weights  {theirs}* -> {ours}*')
    print(f'checkpoint: {args.out}')
    print(f'run it:     asl-det infer {args.out} IMAGE')
