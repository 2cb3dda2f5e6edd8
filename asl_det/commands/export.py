"""Write a classifier or a dense detector as one ONNX file that says how to use it.

    asl-det export CHECKPOINT                # of this package: config inside
    asl-det export CONFIG CHECKPOINT --threshold thresholds.json

Classes, thresholds and preprocessing are in the metadata; docs/run_onnx.py reads them with
onnxruntime and Pillow alone.
"""

import argparse

from asl_det.commands.command_line import (
    add_image_size,
    add_threshold,
    read_image_size,
    split_config,
)
from asl_det.errors import UserError

OLD = {'--thresholds': '--threshold', '--size': '--image-size'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('arguments', nargs='+', metavar='[CONFIG] CHECKPOINT',
                        help='config (by default the one in the checkpoint) and checkpoint')
    parser.add_argument('--out', metavar='FILE', help='default: beside the checkpoint, .onnx; of '
                        'a URL here')
    add_threshold(parser, 'that goes with it', 'those in the checkpoint')
    parser.add_argument('--logits', action='store_true', help='scores before the sigmoid (and '
                        'before their calibration), which differ where the sigmoid in float32 is '
                        '1 already, from 17 upwards')
    parser.add_argument('--raw-scores', action='store_true', help='a second output, raw_scores: '
                        'probabilities before their calibration')
    add_image_size(parser, 'of the input', 'as the test pipeline resizes')


def run(args: argparse.Namespace) -> None:
    import os
    from pathlib import Path
    from urllib.parse import urlparse

    from asl_det.files.whole import require_output
    from asl_det.inference.export import export_onnx
    from asl_det.inference.opening import open_checkpoint
    from asl_det.multilabel.thresholds import Thresholds

    config, checkpoints = split_config(args.arguments)
    if len(checkpoints) != 1:
        raise UserError('expected CHECKPOINT, or CONFIG and CHECKPOINT')
    checkpoint, size = checkpoints[0], read_image_size(args.image_size)
    require_output(args.out, '--out')
    opened = open_checkpoint(config, checkpoint)
    thresholds = opened.choose(Thresholds.parse(args.threshold)).thresholds
    beside = os.path.basename(urlparse(checkpoint).path) if '://' in checkpoint else checkpoint
    out = Path(args.out) if args.out else Path(beside).with_suffix('.onnx')
    differences = export_onnx(opened.build('cpu'), opened.cfg, opened.classes, out,
                              thresholds=thresholds, logits=args.logits, raw=args.raw_scores,
                              size=size, source=Path(checkpoint).name)
    for name, value in differences.items():
        print(f'{name}: at most {value:.1g} from torch')
    print(f'written: {out}')
