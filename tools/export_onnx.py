"""Write a classifier or a dense detector as one ONNX file that says how to use it.

    python tools/export_onnx.py CHECKPOINT                # of this package: config inside
    python tools/export_onnx.py CONFIG CHECKPOINT --thresholds thresholds.json

Classes, thresholds and preprocessing are in the metadata; tools/run_onnx.py reads them with
onnxruntime and Pillow alone.
"""

import argparse
import os
from pathlib import Path
from urllib.parse import urlparse

from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError
from asl_det.files.whole import require_output
from asl_det.inference.export import export_onnx
from asl_det.inference.opening import open_checkpoint
from asl_det.multilabel.thresholds import Thresholds


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('arguments', nargs='+', metavar='[CONFIG] CHECKPOINT',
                        help='config (by default the one in the checkpoint) and checkpoint')
    parser.add_argument('--out', metavar='FILE', help='default: beside the checkpoint, .onnx; of '
                        'a URL here')
    parser.add_argument('--thresholds', metavar='T|thresholds.json', help='that go with it; '
                        'default: those in the checkpoint')
    parser.add_argument('--logits', action='store_true', help='scores before the sigmoid (and '
                        'before temperature and bias of the thresholds), which differ where the '
                        'sigmoid in float32 is 1 already, from 17 upwards')
    parser.add_argument('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'),
                        help='of the input; default: as the test pipeline resizes')
    args = parser.parse_args()
    if len(args.arguments) > 2:
        parser.error('expected CHECKPOINT, or CONFIG and CHECKPOINT')
    return args


@one_line_errors
def main() -> None:
    args = parse_args()
    *config, checkpoint = args.arguments
    if args.size and min(args.size) < 1:
        raise UserError(f'--size {args.size[0]} {args.size[1]}: expected numbers from 1')
    require_output(args.out, '--out')
    opened = open_checkpoint(config[0] if config else None, checkpoint)
    thresholds = Thresholds.parse(args.thresholds) if args.thresholds else opened.thresholds
    beside = os.path.basename(urlparse(checkpoint).path) if '://' in checkpoint else checkpoint
    out = Path(args.out) if args.out else Path(beside).with_suffix('.onnx')
    differences = export_onnx(opened.build('cpu'), opened.cfg, opened.classes, out,
                              thresholds=thresholds, logits=args.logits, size=args.size,
                              source=Path(checkpoint).name)
    for name, value in differences.items():
        print(f'{name}: at most {value:.1g} from torch')
    print(f'written: {out}')


if __name__ == '__main__':
    main()
