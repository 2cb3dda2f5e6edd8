"""Train a config with several losses or settings and seeds: mean, spread, differences, figure.

    asl-det sweep CONFIG --work-dir DIR --seeds 0 1 2 --losses focal asl
    asl-det sweep CONFIG --work-dir DIR --loss asl --grid loss_options.clip=0.05,0.1,0.2
    asl-det sweep CONFIG --work-dir DIR --seeds 0 1 2
        --grid model.head.loss.gamma_neg=0,2,4 --grid model.head.loss.clip=0,0.05
"""

import argparse
import re
import sys

from asl_det.commands.command_line import (
    add_config,
    add_metrics,
    add_overwrite,
    add_own_data,
    config_options,
)
from asl_det.errors import UserError

OLD = {'--anew': '--overwrite'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)  # of all runs
    add_own_data(parser)
    parser.add_argument('--work-dir', required=True, metavar='DIR',
                        help='folder of all runs; the same again continues')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], metavar='N',
                        help='each trains every variant once (default: 0)')
    parser.add_argument('--losses', nargs='+', default=[], metavar='LOSS', help='losses to '
                        'compare, as in --loss; with --grid all combinations (default: none)')
    parser.add_argument('--grid', action='append', default=[], metavar='KEY[,KEY]=V1,V2,...',
                        help='values of a config key (lists: [1,2],[3,4]); keys joined by a comma '
                        'share them (default: none)')
    parser.add_argument('--variant', action='append', nargs='+', default=[],
                        metavar=('NAME', 'KEY=VALUE'), help='named settings beside losses and '
                        'grid, e.g. loss=asl loss_options.clip=0.1; none: the config as it is '
                        '(default: none)')
    parser.add_argument('--baseline', metavar='NAME', help='the variant that differences, seed by '
                        'seed, are to; default: the first')
    add_metrics(parser, 'patterns of the metrics in the table; the first is drawn')
    parallel = parser.add_mutually_exclusive_group()
    parallel.add_argument('--jobs', type=int, default=1, metavar='N', help='runs at a time')
    parallel.add_argument('--gpus', nargs='+', default=[], metavar='GPU', help='as in '
                          'CUDA_VISIBLE_DEVICES; one run at a time on each (default: as torch '
                          'chooses)')
    add_overwrite(parser, 'put runs aside that were made with another config, other data or other '
                  'code, and train them again')


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from asl_det.experiments.figures import plot_sweep
    from asl_det.experiments.grid import read_grid, read_variants
    from asl_det.experiments.sweep import sweep
    from asl_det.experiments.table import METRICS, metric_names, table
    from asl_det.files.whole import write_whole

    metrics = args.metrics or [METRICS]
    check_arguments(args)
    grid = {**({'loss': args.losses} if args.losses else {}), **read_grid(args.grid)}
    variants = read_variants(grid, args.variant)
    if not variants:
        raise UserError('there is nothing to compare: give --losses, --grid or --variant')
    if args.baseline and args.baseline not in variants:
        raise UserError(f'--baseline {args.baseline}: there are {", ".join(variants)}')
    try:
        record = sweep(args.config, variants, args.seeds, args.work_dir,
                       options=config_options(args), jobs=args.jobs, gpus=args.gpus,
                       anew=args.overwrite, baseline=args.baseline)
    except KeyboardInterrupt:
        sys.exit('interrupted: the same command again goes on where it was')
    if metric_names(record):
        text = table(record, metrics)
        write_whole(Path(args.work_dir, 'table.md'), text)
        figures = plot_sweep(record, metrics[0], Path(args.work_dir), grid)
        print(text)
        print(f'record: {args.work_dir}/sweep.json, table: {args.work_dir}/table.md, '
              f'figure: {", ".join(map(str, figures))}')
    if record['failed']:
        sys.exit(
            f'error: {len(record["failed"])} of {len(variants) * len(args.seeds)} runs failed, the '
            'others are kept and the same command goes on: '
            + '; '.join(f'{run}: {why}' for run, why in record['failed'].items()))


def check_arguments(args: argparse.Namespace) -> None:
    if args.losses and args.loss:
        raise UserError('--loss and --losses: give one of them')
    for pattern in args.metrics or ():
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f'--metrics {pattern}: no regular expression ({error}); .*mAP fits '
                            'every name that ends with mAP') from None
