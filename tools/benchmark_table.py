"""The table and the chart of ``tools/benchmark_loss.py``."""

from pathlib import Path
from typing import Any, Dict, Sequence, Union

import matplotlib
from matplotlib.figure import Figure

OURS, OTHERS = '#0072B2', '#BBBBBB'  # told apart in print and by colour-blind readers


COLUMNS = ('logits', 'distribution', 'dtype', 'threads', 'plain chain / ours',
           'mmdet FocalLoss / ours', 'BCE / ours', 'one thread / ours', 'ours / one copy',
           'peak memory / logits', 'commit')


def benchmark_table(records: Sequence[Dict[str, Any]]) -> str:
    """The rows of benchmarks as Markdown: how many times as fast our path is.

    Args:
        records: what the benchmark writes as json.
    """
    lines = [f'| {" | ".join(COLUMNS)} |', '|' + ' --- |' * len(COLUMNS)]
    for record in records:
        for case in record['results']:
            speed = {e['name']: e['chain_over_this'] for e in case['entries']}
            ours = speed['asl_det auto']

            def ratio(name: str, inverse: bool = False, speed: Dict[str, float] = speed,
                      ours: float = ours) -> str:
                found = [v for n, v in speed.items() if n.startswith(name)]
                return f'{found[0] / ours if inverse else ours / found[0]:.1f}' if found else '-'

            large = case['rows'] * case['classes'] > 1 << 21  # smaller ones tell no memory
            peak = next(e['peak_over_logits'] for e in case['entries']
                        if e['name'] == 'asl_det auto')
            margin = '' if case['clip'] == 0.05 else \
                f', margin {case["clip"]:g}' if case['clip'] else ', no margin'
            lines.append('| ' + ' | '.join((
                f'({case["rows"]:,}, {case["classes"]}) {case["kind"]}',
                f'{case["logits"]} ({case["share_over_margin"]:.1%} over 0.05){margin}',
                record['dtype'], str(record['threads']) + record.get('beside', ''),
                ratio('plain chain'), ratio('mmdet FocalLoss'), ratio('BCE'),
                ratio('asl_det auto, one thread'), ratio('one copy', True) if large else '-',
                f'{peak:.1f}' if large else '-', record['commit'])) + ' |')
    return '\n'.join(lines)


def plot_benchmark(record: Dict[str, Any], out: Union[str, Path]) -> None:
    """Bars of speed relative to the plain chain, a panel for every case.

    Args:
        record: what the benchmark writes as json.
        out: file to write; its suffix decides on the format.
    """
    results = record['results']
    with matplotlib.rc_context({'axes.spines.top': False, 'axes.spines.right': False}):
        columns = min(2, len(results))
        rows = -(-len(results) // columns)
        figure = Figure(figsize=(5.2 * columns, 2.6 * rows), layout='constrained')
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels[len(results):]:
            axes.remove()
        for axes, case in zip(panels, results, strict=False):
            entries = case['entries'][::-1]
            speed = [e['chain_over_this'] for e in entries]
            bars = axes.barh([e['name'] for e in entries], speed, color=[
                OURS if e['name'].startswith('asl_det') else OTHERS for e in entries])
            axes.bar_label(bars, [f'{s:.1f}' for s in speed], padding=2, fontsize='small')
            axes.set_xscale('log')
            axes.margins(x=0.15)
            axes.tick_params(labelsize='small')
            axes.set_title(f'({case["rows"]:,}, {case["classes"]}) {case["kind"]}, '
                           f'{case["logits"]}, clip {case["clip"]}', fontsize='small')
            axes.set_xlabel('times as fast as the plain chain (log scale)', fontsize='small')
        figure.savefig(out, dpi=120)
