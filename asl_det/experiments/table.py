"""A sweep as tables: what every variant reached, and what it has more than another."""

import math
import re
import statistics
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from asl_det.errors import UserError
from asl_det.files.reading import NUMBER, expect_shape, read_json

# What a table shows where nothing else is asked for: mAP of any metric, and what COCO's has beside.
METRICS = r'.*mAP(_50|_75|_s|_m|_l)?|train/seconds_per_iteration'
MAYBE = (*NUMBER, type(None))  # None where a run failed
SWEEP = {'baseline?': str, 'failed?': dict, 'variants': {'*': {
    'metrics': {'*': {'mean': NUMBER, 'values': [MAYBE], 'std': MAYBE}},
    'differences?': {'*': {'mean': NUMBER, 'values': [MAYBE], 'standard_error': MAYBE}}}}}


def metric_names(record: Dict[str, Any]) -> List[str]:
    """The metrics that any run of a sweep reported, those of its training last."""
    names = dict.fromkeys(m for v in record['variants'].values() for m in v['metrics'])
    return sorted(names, key=lambda name: name.startswith('train/'))


def table(record: Dict[str, Any], metrics: Sequence[str]) -> str:
    """The sweep as Markdown: mean and standard deviation over seeds, and differences.

    Two tables, the second of what each variant has more than the baseline
    with the same seed. A dash stands where a variant lacks the metric; where fewer seeds than
    the sweep's reported it, the cell says how many. Failed runs are listed
    below.

    Args:
        record: what :func:`sweep` returns.
        metrics: patterns of whole metric names, e.g. ``'.*mAP'``.

    Raises:
        UserError: if a pattern fits no metric.
    """
    chosen = _chosen(record, metrics)
    variants = record['variants']
    lines = _rows(chosen, {name: [show(variant['metrics'].get(m)) for m in chosen]
                           for name, variant in variants.items()})
    differences = {name: [show_difference(variant['differences'].get(m)) for m in chosen]
                   for name, variant in variants.items() if 'differences' in variant}
    if differences:
        lines += ['', f'Difference to {record["baseline"]}, mean over seeds ± standard error:', '',
                  *_rows(chosen, differences)]
    lines += [''] * bool(record.get('failed'))
    lines += [f'- failed: {run}: {why}' for run, why in record.get('failed', {}).items()]
    return '\n'.join(lines) + '\n'


def tables_as_one(records: Dict[str, Dict[str, Any]], metrics: Sequence[str],
                  baseline: Optional[str] = None) -> str:
    """Several sweeps as one Markdown table: a row is a variant of a sweep.

    The last column is what the variant has more of the first metric than the
    baseline of its sweep with the same seed, mean and standard error.

    Args:
        records: name of the sweep -> what :func:`sweep` returned.
        metrics: patterns of whole metric names.
        baseline: variant of every sweep; None: the baseline each was run with.

    Raises:
        UserError: if a sweep has no metric or variant of that name.
    """
    columns = list(dict.fromkeys(m for r in records.values() for m in _chosen(r, metrics)))
    cells = {}
    for name, record in records.items():
        variants, other = record['variants'], _baseline(name, record, baseline)
        for variant, found in variants.items():
            more = differences_to(variants[other]['metrics'], found['metrics'])
            cells[f'{name}: {variant}'] = [
                *(show(found['metrics'].get(m)) for m in columns),
                '' if variant == other else show_difference(more.get(columns[0]))]
    return '\n'.join(_rows([*columns, f'{_short(columns[0])} more than {baseline or "baseline"}'],
                           cells)) + '\n'


def table_by_variant(records: Dict[str, Dict[str, Any]], metric: str,
                     baseline: Optional[str] = None) -> str:
    """Several sweeps as one short Markdown table: a row is a sweep, a column a variant.

    A cell is the metric, and in brackets what it has more than the baseline
    of its sweep with the same seed, mean and standard error.

    Args:
        records, baseline: as for :func:`tables_as_one`.
        metric: a pattern that one metric of every sweep fits.

    Raises:
        UserError: if a sweep has no metric or variant of that name.
    """
    columns = list(dict.fromkeys(v for r in records.values() for v in r['variants']))
    cells = {}
    for name, record in records.items():
        variants, other = record['variants'], _baseline(name, record, baseline)
        chosen, *rest = _chosen(record, [metric])
        if rest:
            raise UserError(f'{metric} is more than one metric: {", ".join([chosen, *rest])}')
        cells[name] = row = []
        for variant in columns:
            found = variants.get(variant, {}).get('metrics', {})
            more = differences_to(variants[other]['metrics'], found).get(chosen)
            beside = '' if more is None or variant == other else f' ({show_difference(more)})'
            row.append(show(found.get(chosen)) + beside if variant in variants else '')
    return '\n'.join(_rows(columns, cells)) + '\n'


def _baseline(name: str, record: Dict[str, Any], asked: Optional[str]) -> str:
    """The variant of a sweep that others are compared with."""
    found = asked or record.get('baseline')
    if found is None:  # of an earlier version
        raise UserError(f'{name} does not say with which variant the others are compared: give '
                        f'--baseline, one of {", ".join(record["variants"])}')
    if found not in record['variants']:
        raise UserError(f'{name} has no variant {found}; there are: '
                        f'{", ".join(record["variants"])}')
    return found


def differences_to(baseline: Dict[str, Dict[str, Any]],
                   metrics: Dict[str, Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """What a variant has more than the baseline with the same seed.

    Args:
        baseline, metrics: name -> ``values``, one a seed, as in a record.

    Returns:
        Name -> ``mean``, ``standard_error`` (of the mean; None for one seed)
        and ``values``, None where either has no value. Metrics that no seed
        has in both are left out.
    """
    found = {}
    for name in metrics:
        pairs = zip(baseline.get(name, {}).get('values', []), metrics[name]['values'], strict=False)
        values = [None if a is None or b is None else b - a for a, b in pairs]
        there = [v for v in values if v is not None]
        if there:
            found[name] = dict(
                mean=statistics.fmean(there), values=values, standard_error=(
                    statistics.stdev(there) / math.sqrt(len(there)) if len(there) > 1 else None))
    return found


def show(value: Optional[Dict[str, Any]]) -> str:
    """``0.812 ± 0.004``, with ``(2 of 3)`` where seeds are missing; a dash for nothing."""
    if value is None:
        return '–'
    missing = value['values'].count(None)
    return (f'{value["mean"]:.3f}' + (f' ± {value["std"]:.3f}' if value['std'] is not None else '')
            + (f' ({len(value["values"]) - missing} of {len(value["values"])})' if missing else ''))


def show_difference(value: Optional[Dict[str, Any]]) -> str:
    """``+0.012 ± 0.004``, mean and standard error; with the seeds where some are missing."""
    if value is None:
        return '–'
    error, missing = value['standard_error'], value['values'].count(None)
    return (f'{value["mean"]:+.3f}' + (f' ± {error:.3f}' if error is not None else '')
            + (f' ({len(value["values"]) - missing} of {len(value["values"])})' if missing else ''))


def _chosen(record: Dict[str, Any], patterns: Sequence[str]) -> List[str]:
    """The metrics of a sweep that the patterns name, each once."""
    known = metric_names(record)
    chosen: List[str] = []
    for pattern in patterns:
        found = [m for m in known if re.fullmatch(pattern, m)]
        if not found:
            raise UserError(f'no metric is named {pattern}; there are: {", ".join(known)}')
        chosen += [m for m in found if m not in chosen]
    return chosen


def _short(metric: str) -> str:
    return metric.split('/')[-1]


def _rows(metrics: Sequence[str], cells: Dict[str, List[str]]) -> List[str]:
    """Lines of a Markdown table."""
    return ['| | ' + ' | '.join(map(_short, metrics)) + ' |',
            '| --- ' * (len(metrics) + 1) + '|',
            *(f'| {name} | ' + ' | '.join(row) + ' |' for name, row in cells.items())]


def read_record(path: Path) -> Dict[str, Any]:
    """What a sweep left; UserError where the file is something else."""
    record = read_json(path)
    expect_shape(record, SWEEP, f'{path}: expected the sweep.json that asl-det sweep writes')
    metrics = [m for variant in record['variants'].values() for m in variant['metrics']]
    if not metrics:
        raise UserError(f'{path}: expected the sweep.json that asl-det sweep writes, with a '
                        'metric of at least one run')
    return record
