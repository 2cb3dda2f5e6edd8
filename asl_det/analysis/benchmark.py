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
        figure = Figure(figsize=(4.6 * len(results), 3.0), layout='constrained')
        for axes, case in zip(figure.subplots(1, len(results), squeeze=False)[0], results,
                              strict=True):
            entries = case['entries'][::-1]
            speed = [e['chain_over_this'] for e in entries]
            bars = axes.barh([e['name'] for e in entries], speed, color=[
                OURS if e['name'].startswith('asl_det') else OTHERS for e in entries])
            axes.bar_label(bars, [f'{s:.1f}' for s in speed], padding=2, fontsize='small')
            axes.margins(x=0.15)
            axes.tick_params(labelsize='small')
            axes.set_title(f'({case["rows"]:,}, {case["classes"]}) {case["kind"]}, '
                           f'{case["logits"]}, clip {case["clip"]}', fontsize='small')
            axes.set_xlabel('times as fast as the plain chain', fontsize='small')
        figure.savefig(out, dpi=120)
