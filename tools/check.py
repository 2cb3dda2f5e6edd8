"""Look for mistakes in a config, its data and a checkpoint, without training.

    python tools/check.py CONFIG                      # what a training would read
    python tools/check.py CONFIG CHECKPOINT           # and whether the checkpoint fits
"""

import argparse
import sys

from rich.console import Console

from asl_det.cli import add_config_arguments, add_num_classes, config_options, one_line_errors
from asl_det.preflight.checks import preflight
from asl_det.preflight.classes import set_num_classes
from asl_det.preflight.read import load_config
from asl_det.preflight.run import Run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    add_num_classes(parser)
    parser.add_argument('checkpoint', nargs='?', help='file or URL, as tools/test.py takes it')
    parser.add_argument('--work-dir', help='folder that the run would write')
    parser.add_argument('--partial', action='store_true', help='the checkpoint may fit in part')
    parser.add_argument('--every-image', action='store_true',
                        help='decode every image, not a sample')
    parser.add_argument('--show', metavar='DIR', help='draw the suspicious images here')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, config_options(args))
    said = set_num_classes(cfg, args.config, 'check', args.num_classes)
    run = Run(cfg, args.config, 'check', args.checkpoint, args.work_dir,
              thorough=args.every_image, partial=args.partial)
    report = preflight(run)
    console = Console()
    for line in said:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    report.show(console)
    errors, warnings = len(report.errors), len(report.warnings)
    print(f'{errors} errors, {warnings} warnings' if errors + warnings else 'nothing is wrong')
    if errors:
        sys.exit(1)


if __name__ == '__main__':
    main()
