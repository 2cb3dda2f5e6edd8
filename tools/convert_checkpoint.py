"""Convert an official checkpoint of ASL or ML-Decoder (TResNet) to one of our classifier.

    python tools/convert_checkpoint.py MS_COCO_TRresNet_L_448_86.6.pth tresnet_l.pth
    python tools/infer.py tresnet_l.pth IMAGE
"""

import argparse

from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError
from asl_det.files.reading import read_lines
from asl_det.inference.convert import convert
from asl_det.multilabel.thresholds import probability


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='file or URL, loaded by allow-list')
    parser.add_argument('out', help='the file to write: weights, config, class names, threshold')
    parser.add_argument('--classes', metavar='FILE',
                        help='class names, one a line, where the file has no idx_to_class')
    parser.add_argument('--threshold', type=float, metavar='T', help='probability from which a '
                        "class is predicted; default: the reference's 0.7, Open Images 0.995")
    parser.add_argument('--input-size', type=int, default=448, metavar='PX',
                        help='side of the square that images are resized to (448)')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.threshold is not None:
        probability(args.threshold, '--threshold')
    if args.input_size < 1:
        raise UserError(f'--input-size {args.input_size}: expected pixels')
    done = convert(args.source, args.out, threshold=args.threshold, image_size=args.input_size,
                   classes=None if args.classes is None else read_lines(args.classes))
    print(f'{done.network}, {done.head}, {len(done.classes)} classes ({done.classes[0]}, ...), '
          f'input {args.input_size} px, threshold {done.threshold:g}')
    for theirs, ours, count in done.groups:
        print(f'  {count:4d} weights  {theirs}* -> {ours}*')
    print(f'checkpoint: {args.out}')
    print(f'run it:     python tools/infer.py {args.out} IMAGE')


if __name__ == '__main__':
    main()
