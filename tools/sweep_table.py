"""Print the results of finished sweeps as one Markdown table: a row is a variant of a sweep.

    python tools/sweep_table.py docs/detection/*_digits.json --metrics '.*_mAP(_50)?'
    python tools/sweep_table.py docs/detection/*_digits.json --metrics '.*_mAP' --by-variant
"""

import argparse
from pathlib import Path
from typing import Any, Dict

from asl_det.commands.command_line import one_line_errors
from asl_det.errors import UserError
from asl_det.experiments.table import METRICS, table_by_variant, tables_as_one
from asl_det.files.reading import NUMBER, expect_shape, read_json

MAYBE = (*NUMBER, type(None))  # None where a run failed
SWEEP = {'baseline?': str, 'failed?': dict, 'variants': {'*': {
    'metrics': {'*': {'mean': NUMBER, 'values': [MAYBE], 'std': MAYBE}},
    'differences?': {'*': {'mean': NUMBER, 'values': [MAYBE], 'standard_error': MAYBE}}}}}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('records', type=Path, nargs='+', metavar='JSON',
                        help='sweep.json of tools/sweep.py; a row begins with the name of the '
                        'file, or of the folder of a sweep.json')
    parser.add_argument('--metrics', nargs='+', default=[METRICS],
                        help='patterns of the columns; the last column is the difference of the '
                        'first to the baseline')
    parser.add_argument('--by-variant', action='store_true',
                        help='a row is a sweep, a column a variant, of the one metric that '
                        '--metrics names, with the difference to the baseline in brackets')
    parser.add_argument('--baseline', metavar='NAME', help='a variant that every sweep has; '
                        "default: each sweep's own")
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    records = {}
    for path in args.records:
        name = path.parent.name if path.name == 'sweep.json' else path.stem
        if name in records:
            raise UserError(f'{path}: another of these files is named {name} too: rename one')
        records[name] = read_record(path)
    if args.by_variant:
        if len(args.metrics) > 1:
            raise UserError(f'--by-variant shows one metric: {" ".join(args.metrics)} are more')
        print(table_by_variant(records, args.metrics[0], args.baseline), end='')
    else:
        print(tables_as_one(records, args.metrics, args.baseline), end='')


def read_record(path: Path) -> Dict[str, Any]:
    """What a sweep left; UserError where the file is something else."""
    record = read_json(path)
    expect_shape(record, SWEEP, f'{path}: expected the sweep.json that tools/sweep.py writes')
    metrics = [m for variant in record['variants'].values() for m in variant['metrics']]
    if not metrics:
        raise UserError(f'{path}: expected the sweep.json that tools/sweep.py writes, with a '
                        'metric of at least one run')
    return record


if __name__ == '__main__':
    main()
