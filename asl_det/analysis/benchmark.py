"""The chart of ``tools/benchmark_loss.py``."""

from pathlib import Path
from typing import Any, Dict, Union

import matplotlib
from matplotlib.figure import Figure

OURS, OTHERS = '#0072B2', '#BBBBBB'  # told apart in print and by colour-blind readers


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
