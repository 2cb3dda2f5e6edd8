"""A sweep as a figure: a line over one key, a heat map over two, bars otherwise."""

import math
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asl_det.analysis.style import legend_label, literal, save
from asl_det.experiments.table import metric_names, show


@literal()
def plot_sweep(record: Dict[str, Any], metric: str, folder: Path,
               grid: Optional[Dict[str, List[Any]]] = None) -> List[Path]:
    """Draw one metric of a sweep to ``sweep.png`` and ``sweep.pdf``.

    Where a variant has no value there is a gap. Bars start at zero.

    Args:
        record: what :func:`asl_det.experiments.sweep.sweep` returns.
        metric: pattern of its name; the first that fits.
        folder: where the files go.
        grid: the grid of the sweep, if it was one.

    Returns:
        The files.
    """
    name = next(m for m in metric_names(record) if re.fullmatch(metric, m))
    found = [v['metrics'].get(name) for v in record['variants'].values()]
    names = list(record['variants'])
    mean = np.array([f['mean'] if f else np.nan for f in found])
    std = np.array([f['std'] or 0.0 if f else np.nan for f in found])
    figure = Figure(figsize=(5.2, 3.8), layout='constrained')
    axes = figure.subplots()
    grid = grid or {}
    size = math.prod(map(len, grid.values())) if grid else 0
    keys = [' = '.join(k.split('.')[-1] for k in keys.split(',')) for keys in grid]
    seeds = len(record['seeds'])
    label = name.split('/')[-1] + (f', mean of {seeds} seeds' if seeds > 1 else ', one seed')
    values = list(grid.values())
    if len(grid) == 1 and all(isinstance(v, (int, float)) for v in values[0]):
        order = np.argsort(values[0])
        axes.errorbar(np.array(values[0])[order], mean[order], std[order], marker='o', capsize=3)
        for other, level, style in zip(names[size:], mean[size:], ('--', ':', '-.') * 9,
                                       strict=False):
            axes.axhline(level, color='black', linestyle=style, label=legend_label(other))
        if names[size:]:
            axes.legend(frameon=False)
        axes.set(xlabel=keys[0], ylabel=label)
        axes.grid(alpha=0.3)
    elif len(grid) == 2:
        _heat_map(axes, values, mean[:size], found[:size])
        beside = [f'{n} {show(f)}' for n, f in zip(names[size:], found[size:], strict=True)]
        axes.set(xlabel=keys[1], ylabel=keys[0], title='\n'.join([label, *beside]))
    else:
        bars = axes.barh(range(len(names)), mean, xerr=std, capsize=3, color='#56b4e9')
        axes.bar_label(bars, [show(f) if f else 'none' for f in found], label_type='center',
                       fontsize='small')
        for i, value in enumerate(found):  # every seed
            there = [v for v in (value or {}).get('values', []) if v is not None]
            axes.scatter(there, [i + 0.32] * len(there), color='black', s=8, zorder=3)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=label)
        axes.invert_yaxis()
    return save(figure, folder / 'sweep')


def _heat_map(axes: Axes, values: List[List[Any]], mean: np.ndarray, found: List[Any]) -> None:
    rows, columns = values
    shape = (len(rows), len(columns))
    axes.imshow(np.reshape(mean, shape), cmap='viridis', aspect='auto', origin='lower')
    there = mean[np.isfinite(mean)]
    middle = (there.min() + there.max()) / 2 if len(there) else 0
    for (i, j), level, value in zip(np.ndindex(shape), mean, found, strict=True):
        axes.text(j, i, show(value).replace(' ', '\n', 1) if value else 'none', ha='center',
                  va='center', fontsize='small', color='white' if level < middle else 'black')
    axes.set_yticks(range(len(rows)), map(str, rows))
    axes.set_xticks(range(len(columns)), map(str, columns))
