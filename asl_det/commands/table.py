"""Print the results of finished sweeps as one Markdown table: a row is a variant of a sweep.

    asl-det table docs/detection/*_digits.json --metrics '.*_mAP(_50)?'
    asl-det table docs/detection/*_digits.json --metrics '.*_mAP' --by-variant
"""

import argparse

from asl_det.commands.command_line import add_metrics
from asl_det.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('records', nargs='+', metavar='JSON',
                        help='sweep.json of asl-det sweep; a row begins with the name of the '
                        'file, or of the folder of a sweep.json')
    add_metrics(parser, 'patterns of the columns; the last column is the difference of the first '
                'to the baseline')
    parser.add_argument('--by-variant', action='store_true',
                        help='a row is a sweep, a column a variant, of the one metric that '
                        '--metrics names, with the difference to the baseline in brackets')
    parser.add_argument('--baseline', metavar='NAME', help='a variant that every sweep has; '
                        "default: each sweep's own")


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from asl_det.experiments.table import METRICS, read_record, table_by_variant, tables_as_one

    records, metrics = {}, args.metrics or [METRICS]
    for path in map(Path, args.records):
        name = path.parent.name if path.name == 'sweep.json' else path.stem
        if name in records:
            raise UserError(f'{path}: another of these files is named {name} too: rename one')
        records[name] = read_record(path)
    if args.by_variant:
        if len(metrics) > 1:
            raise UserError(f'--by-variant shows one metric: {" ".join(metrics)} are more')
        print(table_by_variant(records, metrics[0], args.baseline), end='')
    else:
        print(tables_as_one(records, metrics, args.baseline), end='')
