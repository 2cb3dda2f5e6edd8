"""Look for mistakes in a config, its data and a checkpoint, without training.

    python tools/check.py CONFIG                      # what a training would read
    python tools/check.py CONFIG CHECKPOINT           # and whether the checkpoint fits
"""

import argparse
import re
import sys
from pathlib import Path
from typing import List

from asl_det.analysis.pictures import plot_images
from asl_det.commands.command_line import (
    add_config_arguments,
    add_num_classes,
    config_options,
    one_line_errors,
)
from asl_det.engine import load_config
from asl_det.files.text import plain_console
from asl_det.files.whole import require_output
from asl_det.preflight.checks import preflight
from asl_det.preflight.classes import set_num_classes
from asl_det.preflight.finding import Report
from asl_det.preflight.images import loaders_of
from asl_det.preflight.run import Run

SHOWN = 24  # images of one finding


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


def draw(report: Report, run: Run, folder: Path) -> List[Path]:
    """A sheet of images for every finding that has some."""
    drawn, loaders = [], loaders_of(run)
    for i, finding in enumerate(f for f in report.findings if f.images):
        folder.mkdir(parents=True, exist_ok=True)
        drawn.append(folder / f'{i + 1:03d}_{re.sub(r"[^a-z0-9]+", "-", finding.rule.lower())}.png')
        plot_images(finding.images[:SHOWN], f'{finding.where}: {finding.message}', drawn[-1],
                    loaders=loaders)
    return drawn


@one_line_errors
def main() -> None:
    args = parse_args()
    require_output(args.show or None, '--show', folder=True)
    cfg = load_config(args.config, config_options(args))
    said = set_num_classes(cfg, args.config, 'check', args.num_classes)
    run = Run(cfg, args.config, 'check', args.checkpoint, args.work_dir,
              thorough=args.every_image, partial=args.partial)
    report = preflight(run)
    console = plain_console()
    for line in said:
        console.print(line, soft_wrap=True)
    report.show(console)
    if args.show:
        for path in draw(report, run, Path(args.show)):
            print(f'drawn: {path}')
    errors, warnings = len(report.errors), len(report.warnings)
    print(f'{errors} errors, {warnings} warnings' if errors + warnings else 'nothing is wrong')
    if errors:
        sys.exit(1)


if __name__ == '__main__':
    main()
