"""A sweep as a figure: a line over one key, a heat map over two, bars otherwise."""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asl_det.analysis.style import save


def plot_sweep(record: Dict[str, Any], metric: str, folder: Path,
               grid: Optional[Dict[str, List[Any]]] = None) -> List[Path]:
    """Draw one metric of a sweep to ``sweep.png`` and ``sweep.pdf``.

    Args:
        record: what :func:`asl_det.sweep.sweep` returns.
        metric: pattern of its name; the first that fits.
        folder: where the files go.
        grid: the grid of the sweep, if it was one.

    Returns:
        The files.
    """
    variants = list(record['variants'].items())
    name = next(m for m in variants[0][1]['metrics'] if re.fullmatch(metric, m))
    mean = [v['metrics'][name]['mean'] for _, v in variants]
    std = [v['metrics'][name]['std'] or 0 for _, v in variants]
    figure = Figure(figsize=(5.2, 3.8), layout='constrained')
    axes = figure.subplots()
    grid = grid or {}
    size = np.prod([len(v) for v in grid.values()]) if grid else 0
    rest = variants[int(size):]
    keys = [' = '.join(k.split('.')[-1] for k in keys.split(',')) for keys in grid]
    label = f'{name.split("/")[-1]}, mean of {len(record["seeds"])} seeds'
    if len(grid) == 1 and all(isinstance(v, (int, float)) for v in next(iter(grid.values()))):
        values = next(iter(grid.values()))
        axes.errorbar(values, mean[:len(values)], std[:len(values)], marker='o', capsize=3)
        for (other, _), level, style in zip(rest, mean[len(values):], ('--', ':', '-.') * 9,
                                            strict=False):
            axes.axhline(level, color='black', linestyle=style, label=other)
        if rest:
            axes.legend(frameon=False)
        axes.set(xlabel=keys[0], ylabel=label)
        axes.grid(alpha=0.3)
    elif len(grid) == 2:
        _heat_map(axes, list(grid.values()), mean[:size], std[:size])
        axes.set(xlabel=keys[1], ylabel=keys[0], title=label)
    else:
        axes.barh(range(len(variants)), mean, xerr=std, capsize=3, color='#56b4e9')
        axes.set_yticks(range(len(variants)), [v for v, _ in variants])
        axes.set(xlabel=label, xlim=(max(0, min(mean) - 0.1), max(mean) + 0.05))
        axes.invert_yaxis()
    return save(figure, folder / 'sweep')


def _heat_map(axes: Axes, values: List[List[Any]], mean: List[float], std: List[float]) -> None:
    rows, columns = values
    shape = (len(rows), len(columns))
    mean, std = np.reshape(mean, shape), np.reshape(std, shape)
    axes.imshow(mean, cmap='viridis', aspect='auto', origin='lower')
    middle = (mean.min() + mean.max()) / 2
    for i, j in np.ndindex(shape):
        axes.text(j, i, f'{mean[i, j]:.3f}\n±{std[i, j]:.3f}', ha='center', va='center',
                  fontsize='small', color='white' if mean[i, j] < middle else 'black')
    axes.set_yticks(range(len(rows)), map(str, rows))
    axes.set_xticks(range(len(columns)), map(str, columns))
