"""Curves of a training, from the scalars that mmengine logs."""

from pathlib import Path
from typing import Dict, List, Tuple, Union

import matplotlib
from matplotlib.figure import Figure

from asl_det.analysis.style import legend_label, literal
from asl_det.records import read_records

METRICS = ('bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75', 'mAP')

Series = Dict[str, Tuple[List[float], List[float]]]


def read_scalars(work_dir: Union[str, Path]) -> Series:
    """All scalars of a run as name -> (steps, values).

    A resumed run logs to one folder per start; where they overlap, the later
    start counts.

    Args:
        work_dir: folder of a run of mmengine's Runner.

    Raises:
        UserError: for a broken record, with file and line; the last of a file is left out.
    """
    points: Dict[str, Dict[float, float]] = {}
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for row in read_records(log):
            step = row.pop('step')
            for name, value in row.items():
                if isinstance(value, (int, float)):
                    points.setdefault(name, {})[step] = value
    return {name: (sorted(p), [p[s] for s in sorted(p)]) for name, p in points.items()}


@literal()
def plot_run(work_dir: Union[str, Path], out: Union[str, Path]) -> None:
    """Draw the losses, the metric and the learning rate of a run into an image file.

    Args:
        work_dir: folder of the run.
        out: file to write; its suffix decides on the format.
    """
    scalars = read_scalars(work_dir)
    panels = {
        'training loss': [n for n in scalars if 'loss' in n and '/' not in n],
        'validation': [n for n in scalars if _is_metric(n)],
        'learning rate': ['lr'] if 'lr' in scalars else [],
    }
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        return
    with matplotlib.rc_context({'axes.spines.top': False, 'axes.spines.right': False}):
        figure = Figure(figsize=(4.2 * len(panels), 3.2), layout='constrained')
        for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                        panels.items(), strict=True):
            for name in sorted(names):
                steps, values = scalars[name]
                axes.plot(steps, values, label=legend_label(name),
                          marker='o' if len(steps) < 30 else None, markersize=3)
            # mmengine counts validation in epochs where training goes by epochs.
            by_epoch = title == 'validation' and 'epoch' in scalars
            axes.set(title=title, xlabel='epoch' if by_epoch else 'iteration', ylim=(0, None))
            axes.grid(alpha=0.3)
            if len(names) > 1:
                axes.legend(frameon=False, fontsize='small')
        figure.savefig(out, dpi=120)


def _is_metric(name: str) -> bool:
    """Also those of the raw and of the averaged weights."""
    return name.split('/')[-1].removesuffix('_raw').removesuffix('_ema') in METRICS
