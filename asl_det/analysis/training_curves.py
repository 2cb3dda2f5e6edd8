"""Curves along trainings: of one run, and probabilities, gamma and metric of several."""


from pathlib import Path
from typing import Dict, List, Sequence, Tuple, Union

import matplotlib
from matplotlib.figure import Figure

from asl_det.analysis.style import COLOURS, LINES, files_of, legend_label, literal, save
from asl_det.errors import UserError
from asl_det.files.records import PROBABILITIES, read_records

METRICS = ('bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75', 'mAP')
Series = Dict[str, Tuple[List[float], List[float]]]
SMOOTHING = 5  # records in a running mean


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

    A panel whose values were recorded once alone has no curve and is left
    out; a run of which there is nothing else gets no file.

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
    panels = {title: names for title, names in panels.items()
              if any(len(scalars[name][0]) > 1 for name in names)}
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


def read_probabilities(run: Union[str, Path]) -> Series:
    """What :class:`ProbabilityMonitorHook` wrote, as name -> (steps, values).

    Where a resumed run repeated steps, the later record counts.

    Raises:
        UserError: if the run has no record, or one is broken (the last
            excepted) or holds what is no number.
    """
    path = Path(run) / PROBABILITIES
    if not path.is_file():
        raise UserError(f'{path} does not exist: train with custom_hooks='
                        "[dict(type='ProbabilityMonitorHook'), ...]")
    rows = {row.pop('step'): row for row in read_records(path)}
    for step, row in rows.items():
        for name, value in row.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UserError(f'{path}, step {step}: {name} is {value!r}: expected a number')
    names = {name for row in rows.values() for name in row}
    return {name: ([s for s in sorted(rows) if name in rows[s]],
                   [rows[s][name] for s in sorted(rows) if name in rows[s]]) for name in names}


def last_epoch(run: Union[str, Path]) -> Dict[str, float]:
    """The means of what the monitor recorded in the last epoch (of all, if there are no epochs)."""
    series = read_probabilities(run)
    final = max(series['epoch'][1])
    steps = {s for s, epoch in zip(*series['epoch'], strict=True) if epoch == final}
    means = {}
    for name, points in series.items():
        values = [v for s, v in zip(*points, strict=True) if s in steps]
        if values and name != 'epoch':
            means[name] = sum(values) / len(values)
    return means


@literal()
def plot_training(runs: Dict[str, Union[str, Path]], out: Union[str, Path]) -> List[Path]:
    """Draw runs side by side (the paper's figure 4), PNG and PDF.

    The upper row has a panel for every run: the mean probability of its
    positives and of its negatives being negative. Below: delta_p, gamma_neg
    where it changes, the share of positives in the gradient, and the metric
    if it was measured more than once.

    Args:
        runs: label -> folder of a run.
        out: file without suffix.

    Raises:
        UserError: for a run without these records, or a place that can not be written.
    """
    files_of(out)
    if len(runs) > len(COLOURS):
        raise UserError(f'{len(runs)} runs: expected at most {len(COLOURS)}, which is how many '
                        'colours can be told apart')
    records = {label: read_probabilities(run) for label, run in runs.items()}
    for label, run in runs.items():
        lacks = [name for name in ('prob_pos', 'prob_neg') if name not in records[label]]
        if lacks:
            raise UserError(f'{Path(run, PROBABILITIES)} has no record with {" and ".join(lacks)}: '
                            'the run ended before ProbabilityMonitorHook wrote one')
    metrics = {label: _metric(read_scalars(run)) for label, run in runs.items()}
    lower = ['delta_p', 'grad_pos']
    if any(len(set(r.get('gamma_neg', ((), ()))[1])) > 1 for r in records.values()):
        lower.insert(1, 'gamma_neg')
    measured = any(len(steps) > 1 for _, _, steps, _ in metrics.values())
    columns = max(len(runs), len(lower) + measured)
    figure = Figure(figsize=(3.0 * columns, 5.6), layout='constrained')
    grid = figure.add_gridspec(2, columns)
    for column, (label, record) in enumerate(records.items()):
        axes = figure.add_subplot(grid[0, column])
        steps, values = record['prob_pos']
        axes.plot(steps, smooth(values), color=COLOURS[3], label='positives: p')
        steps, values = record['prob_neg']
        axes.plot(steps, smooth([1 - v for v in values]), color=COLOURS[6], linestyle='--',
                  label='negatives: 1 - p')
        axes.set(title=label, xlabel='iteration', ylim=(0, 1.02))
        if column == 0:
            axes.set_ylabel('mean probability of the truth')
            axes.legend(frameon=False, fontsize='small', loc='lower right')
    titles = dict(delta_p='Δp', gamma_neg='γ-', grad_pos='share of positives in the gradient')
    for column, name in enumerate(lower):
        axes = figure.add_subplot(grid[1, column])
        for (label, record), colour, line in zip(records.items(), COLOURS, LINES, strict=False):
            if name in record:
                axes.plot(record[name][0], smooth(record[name][1]), color=colour, linestyle=line,
                          label=legend_label(label))
        axes.set(title=titles[name], xlabel='iteration')
        if column == 0:
            axes.legend(framealpha=0.8, edgecolor='none', fontsize='x-small')
    if measured:
        axes = figure.add_subplot(grid[1, len(lower)])
        for (label, (name, by_epoch, steps, values)), colour, line in zip(
                metrics.items(), COLOURS, LINES, strict=False):
            axes.plot(steps, values, marker='.', color=colour, linestyle=line, label=label)
            axes.set(title=name, xlabel='epoch' if by_epoch else 'iteration')
    return save(figure, out)


def smooth(values: Sequence[float]) -> List[float]:
    """A running mean over the last records."""
    return [sum(values[max(0, i - SMOOTHING + 1):i + 1]) / min(i + 1, SMOOTHING)
            for i in range(len(values))]


def _metric(scalars: Series) -> tuple:
    """Name, whether it goes by epochs, steps and values of the first known metric."""
    for name, (steps, values) in scalars.items():
        if name.split('/')[-1] in METRICS:
            return name.split('/')[-1], 'epoch' in scalars, steps, values
    return 'no validation', False, [], []
