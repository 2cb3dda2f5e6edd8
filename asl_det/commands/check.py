"""Look for mistakes in a config, its data and a checkpoint, without training.

    asl-det check CONFIG                      # what a training would read
    asl-det check CONFIG CHECKPOINT           # and whether the checkpoint fits
"""

import argparse
import sys

from asl_det.commands.command_line import (
    add_config,
    add_num_classes,
    add_own_data,
    config_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_own_data(parser)
    add_num_classes(parser)
    parser.add_argument('checkpoint', nargs='?', metavar='CHECKPOINT', help='file or URL, as '
                        'asl-det test takes it (default: none)')
    parser.add_argument('--work-dir', metavar='DIR', help='folder that the run would write '
                        '(default: it is not looked at)')
    parser.add_argument('--partial', action='store_true', help='the checkpoint may fit in part')
    parser.add_argument('--every-image', action='store_true',
                        help='decode every image, not a sample')
    parser.add_argument('--show', metavar='DIR', help='draw the suspicious images here (default: '
                        'none are drawn)')


def run(args: argparse.Namespace) -> None:
    from asl_det.engine import load_config
    from asl_det.files.text import plain_console
    from asl_det.files.whole import require_output
    from asl_det.preflight.annotations import count_labels
    from asl_det.preflight.checks import preflight
    from asl_det.preflight.classes import set_num_classes
    from asl_det.preflight.drawing import draw_findings
    from asl_det.preflight.images import SAMPLE
    from asl_det.preflight.run import Run

    require_output(args.show or None, '--show', folder=True)
    cfg = load_config(args.config, config_options(args))
    said = set_num_classes(cfg, args.config, 'check', args.num_classes)
    looked_at = Run(cfg, args.config, 'check', args.checkpoint, args.work_dir,
                    thorough=args.every_image, partial=args.partial)
    report = preflight(looked_at)
    console = plain_console()
    for line in said:
        console.print(line, soft_wrap=True)
    report.show(console)
    if args.show:
        for path in draw_findings(report, looked_at, args.show):
            print(f'drawn: {path}')
    if not report.errors:
        images, labels = count_labels(looked_at)
        if images:
            print(f'{images:,} images and {labels:,} labels were looked at'
                  + ('' if args.every_image else f'; at most {SAMPLE} images of each data set were '
                     'decoded (--every-image: all)'))
    errors, warnings = len(report.errors), len(report.warnings)
    print(f'{errors} errors, {warnings} warnings' if errors + warnings else 'nothing is wrong')
    if errors:
        sys.exit(1)
