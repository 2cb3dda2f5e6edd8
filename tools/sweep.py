"""Train a config with several losses or settings and seeds: mean, spread, differences, figure.

    python tools/sweep.py CONFIG --work-dir DIR --seeds 0 1 2 --losses focal asl
    python tools/sweep.py CONFIG --work-dir DIR --loss asl --grid loss_options.clip=0.05,0.1,0.2
    python tools/sweep.py CONFIG --work-dir DIR --seeds 0 1 2
        --grid model.head.loss.gamma_neg=0,2,4 --grid model.head.loss.clip=0,0.05
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

from mmengine.config import DictAction

from asl_det.commands.command_line import add_config_arguments, config_options, one_line_errors
from asl_det.errors import UserError
from asl_det.experiments.figures import plot_sweep
from asl_det.experiments.sweep import grid_variants, sweep
from asl_det.experiments.table import METRICS, metric_names, table
from asl_det.files.whole import write_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)  # of all runs
    parser.add_argument('--work-dir', required=True, help='folder of all runs; the same again '
                        'continues')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--losses', nargs='+', default=[], metavar='LOSS',
                        help='losses to compare, as in --loss; with --grid all combinations')
    parser.add_argument('--grid', action='append', default=[], metavar='KEY[,KEY]=V1,V2,...',
                        help='values of a config key (lists: [1,2],[3,4]); keys joined by a comma '
                        'share them')
    parser.add_argument('--variant', action='append', nargs='+', default=[],
                        metavar=('NAME', 'KEY=VALUE'), help='named settings beside losses and '
                        'grid, e.g. loss=asl loss_options.clip=0.1; none: the config as it is')
    parser.add_argument('--baseline', metavar='NAME', help='the variant that differences, seed by '
                        'seed, are to; default: the first')
    parser.add_argument('--metrics', nargs='+', default=[METRICS],
                        help='patterns of the metrics in the table; the first is drawn')
    parallel = parser.add_mutually_exclusive_group()
    parallel.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parallel.add_argument('--gpus', nargs='+', default=[], metavar='GPU', help='as in '
                          'CUDA_VISIBLE_DEVICES; one run at a time on each')
    parser.add_argument('--anew', action='store_true', help='put runs aside that were made with '
                        'another config, other data or other code, and train them again')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.losses and args.loss:
        raise UserError('--loss and --losses: give one of them')
    grid = {**({'loss': args.losses} if args.losses else {}), **read_grid(args.grid)}
    variants = grid_variants(grid) if grid else {}
    for name, *settings in args.variant:
        if name in variants:
            raise UserError(f'--variant {name}: there are two of this name')
        variants[name] = read_settings('--variant', settings)
    for pattern in args.metrics:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f'--metrics {pattern}: no regular expression ({error}); .*mAP fits '
                            'every name that ends with mAP') from None
    if not variants:
        raise UserError('there is nothing to compare: give --losses, --grid or --variant')
    if args.baseline and args.baseline not in variants:
        raise UserError(f'--baseline {args.baseline}: there are {", ".join(variants)}')
    try:
        record = sweep(args.config, variants, args.seeds, args.work_dir,
                       options=config_options(args), jobs=args.jobs, gpus=args.gpus, anew=args.anew,
                       baseline=args.baseline)
    except KeyboardInterrupt:
        sys.exit('interrupted: the same command again goes on where it was')
    if metric_names(record):
        text = table(record, args.metrics)
        write_whole(Path(args.work_dir, 'table.md'), text)
        figures = plot_sweep(record, args.metrics[0], Path(args.work_dir), grid)
        print(text)
        print(f'record: {args.work_dir}/sweep.json, table: {args.work_dir}/table.md, '
              f'figure: {", ".join(map(str, figures))}')
    if record['failed']:
        sys.exit(
            f'error: {len(record["failed"])} of {len(variants) * len(args.seeds)} runs failed, the '
            'others are kept and the same command goes on: '
            + '; '.join(f'{run}: {why}' for run, why in record['failed'].items()))


def read_grid(texts: List[str]) -> Dict[str, List[Any]]:
    """``KEY[,KEY]=V1,V2,...`` as keys -> values."""
    grid: Dict[str, List[Any]] = {}
    for text in texts:
        keys, equals, values = text.partition('=')
        if not equals or not values:
            raise UserError(f'--grid {text}: expected KEY=VALUE,VALUE,...')
        if keys in grid:
            raise UserError(f'--grid {keys} is given twice: give all of its values at once')
        grid[keys] = [read_settings('--grid', [f'{keys}={value}'])[keys]
                      for value in split(values)]
    return grid


def split(text: str) -> Tuple[str, ...]:
    """The parts between the commas that no bracket encloses."""
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in '([') - (letter in ')]')
        if letter == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += letter
    if depth or '' in parts:
        raise UserError(f'{text}: expected values with commas between them and brackets in pairs')
    return tuple(parts)


def read_settings(option: str, texts: List[str]) -> Dict[str, Any]:
    """``KEY=VALUE`` texts, read as ``--cfg-options`` reads them."""
    for text in texts:
        if '=' not in text:
            raise UserError(f'{option}: {text}: expected KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--settings', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--settings', *texts]).settings


if __name__ == '__main__':
    main()
