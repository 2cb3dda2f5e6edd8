"""Train a config over a grid of settings and seeds: mean, spread, table and figure.

    python tools/sweep.py CONFIG --work-dir DIR --seeds 0 1 2
        --grid model.head.loss.gamma_neg=0,2,4 --grid model.head.loss.clip=0,0.05
"""

import argparse
import ast
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from asl_det.analysis.sweep import plot_sweep
from asl_det.cli import one_line_errors
from asl_det.errors import UserError
from asl_det.sweep import grid_variants, sweep, table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--work-dir', required=True, help='folder of all runs; the same again '
                        'continues')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--grid', action='append', default=[], metavar='KEY[,KEY]=V1,V2,...',
                        help='values of a config key; keys joined by a comma share them')
    parser.add_argument('--variant', action='append', nargs='+', default=[],
                        metavar=('NAME', 'KEY=VALUE'), help='named settings beside the grid')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings of all runs')
    parser.add_argument('--metrics', nargs='+', default=['.*mAP'],
                        help='patterns of the metrics in the table; the first is drawn')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    grid = dict(read_grid(text) for text in args.grid)
    variants = grid_variants(grid) if grid else {}
    for name, *settings in args.variant:
        variants[name] = dict(read_setting(text) for text in settings)
    if not variants:
        raise UserError('there is nothing to compare: give --grid or --variant')
    record = sweep(args.config, variants, args.seeds, args.work_dir, options=args.cfg_options,
                   jobs=args.jobs)
    text = table(record, args.metrics)
    Path(args.work_dir, 'table.md').write_text(text)
    figures = plot_sweep(record, args.metrics[0], Path(args.work_dir), grid)
    print(text)
    print(f'record: {args.work_dir}/sweep.json, table: {args.work_dir}/table.md, '
          f'figure: {", ".join(map(str, figures))}')


def read_grid(text: str) -> Any:
    keys, equals, values = text.partition('=')
    if not equals or not values:
        raise UserError(f'--grid {text}: expected KEY=VALUE,VALUE,...')
    return keys, [read_value(v) for v in values.split(',')]


def read_setting(text: str) -> Any:
    key, equals, value = text.partition('=')
    if not equals:
        raise UserError(f'--variant: {text}: expected KEY=VALUE')
    return key, read_value(value)


def read_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == '__main__':
    main()
