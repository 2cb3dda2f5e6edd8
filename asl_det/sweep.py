"""Ordinary trainings over a grid of settings and seeds, with mean and spread."""

import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asl_det.engine import load_config, train, versions
from asl_det.errors import UserError
from asl_det.hooks.probability_monitor import FILE

Settings = Dict[str, Any]
Variants = Dict[str, Settings]


def sweep(config: str,
          variants: Variants,
          seeds: Sequence[int],
          work_dir: str,
          *,
          options: Optional[Settings] = None,
          jobs: int = 1) -> Dict[str, Any]:
    """Train every variant with every seed.

    A run is what ``tools/train.py`` would do, in ``<work_dir>/<variant>/seed<n>``
    with its output in ``train.log``. Finished runs are not repeated and
    interrupted ones continue, so the same call goes on where it was.

    Args:
        config: config file.
        variants: name -> dotted keys of the config and their values.
        seeds: one training each.
        work_dir: folder of the sweep.
        options: dotted keys and values for all runs.
        jobs: runs at a time; the CPU's cores are shared among them.

    Returns:
        A record with command, commit, versions and, for every variant, the
        settings and ``metrics``: name -> ``mean``, ``std`` (of the sample,
        None for one seed) and ``values`` of the last validation, and as
        ``train/...`` the means of the last epoch from a
        ``ProbabilityMonitorHook``. Also written to ``<work_dir>/sweep.json``.

    Raises:
        UserError: if a run fails, or the folder holds a run of this name with
            other settings.
    """
    options = dict(options or {})
    runs = [(name, seed) for seed in seeds for name in variants]
    folders = {run: Path(work_dir, run[0], f'seed{run[1]}') for run in runs}
    for (name, seed), folder in folders.items():
        _claim(folder, dict(config=config, settings={**options, **variants[name]}, seed=seed))
    todo = [run for run in runs if not (folders[run] / 'result.json').exists()]
    import mmdet.datasets  # noqa: F401  once, before the runs are forked
    import mmdet.models  # noqa: F401

    failed = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns) as progress:
        task = progress.add_task('runs', total=len(runs), completed=len(runs) - len(todo))
        running = {}
        try:
            while todo or running:
                while todo and len(running) < jobs:
                    run = todo.pop(0)
                    process = multiprocessing.get_context('fork').Process(
                        target=_train, args=(config, {**options, **variants[run[0]]}, run[1],
                                             folders[run], max(1, (os.cpu_count() or 1) // jobs)))
                    process.start()
                    running[process.sentinel] = (run, process)
                for sentinel in wait(list(running)):
                    run, process = running.pop(sentinel)
                    process.join()
                    if not (folders[run] / 'result.json').exists():
                        failed.append(run)
                    progress.advance(task)
        finally:
            for _, process in running.values():
                process.terminate()
    if failed:
        logs = ', '.join(str(folders[run] / 'train.log') for run in failed)
        raise UserError(f'{len(failed)} of {len(runs)} runs failed, the others are kept: {logs}')

    record = dict(config=config, options=options, command=' '.join(sys.argv), commit=git_commit(),
                  versions=versions(),
                  seeds=list(seeds), variants={})
    for name, settings in variants.items():
        results = [json.loads((folders[name, seed] / 'result.json').read_text())['metrics']
                   for seed in seeds]
        record['variants'][name] = dict(settings=settings, metrics={
            metric: dict(mean=statistics.fmean(values), values=values,
                         std=statistics.stdev(values) if len(values) > 1 else None)
            for metric in results[0] for values in [[r[metric] for r in results]]})
    _write(Path(work_dir, 'sweep.json'), record)
    return record


def grid_variants(grid: Dict[str, List[Any]]) -> Variants:
    """Every combination of the values of each key.

    Args:
        grid: dotted key, or several joined by ``,`` that share a value, ->
            values.
    """
    variants: Variants = {'': {}}
    for keys, values in grid.items():
        short = keys.split(',')[0].split('.')[-1]
        variants = {f'{name}{"_" if name else ""}{short}-{value}':
                    {**settings, **dict.fromkeys(keys.split(','), value)}
                    for name, settings in variants.items() for value in values}
    return variants


def table(record: Dict[str, Any], metrics: Sequence[str]) -> str:
    """The sweep as a Markdown table, mean and standard deviation over seeds.

    Args:
        record: what :func:`sweep` returns.
        metrics: patterns of whole metric names, e.g. ``'.*mAP'``.

    Raises:
        UserError: if a pattern fits no metric.
    """
    variants = record['variants']
    known = list(next(iter(variants.values()))['metrics'])
    chosen = []
    for pattern in metrics:
        found = [m for m in known if re.fullmatch(pattern, m)]
        if not found:
            raise UserError(f'no metric is named {pattern}; there are: {", ".join(known)}')
        chosen += [m for m in found if m not in chosen]
    lines = ['| | ' + ' | '.join(m.split('/')[-1] for m in chosen) + ' |',
             '| --- ' * (len(chosen) + 1) + '|']
    for name, variant in variants.items():
        cells = [show(variant['metrics'][m]) for m in chosen]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def show(value: Dict[str, Any]) -> str:
    """``0.812 ± 0.004``."""
    return f'{value["mean"]:.3f}' + (f' ± {value["std"]:.3f}' if value['std'] is not None else '')


def git_commit() -> Optional[str]:
    """The commit of the working directory, marked if files differ from it."""
    try:
        return subprocess.run(['git', 'describe', '--always', '--dirty'], capture_output=True,
                              text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def last_metrics(scalars: Dict[str, Tuple[List[float], List[float]]]) -> Dict[str, float]:
    """The metrics (names with a slash) of the last validation of a run."""
    return {name: values[-1] for name, (_, values) in scalars.items() if '/' in name}


def _claim(folder: Path, run: Dict[str, Any]) -> None:
    path = folder / 'run.json'
    run = json.loads(json.dumps(run, default=str))
    if path.exists():
        found = json.loads(path.read_text())
        if found != run:
            raise UserError(f'{folder} holds a run with other settings ({found}, asked {run}): '
                            'choose another --work-dir, or delete it')
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, run)


def _train(config: str, options: Settings, seed: int, folder: Path, threads: int) -> None:
    """One run, in a process of its own."""
    from asl_det.analysis.curves import read_scalars
    from asl_det.analysis.training_curves import last_epoch
    log = open(folder / 'train.log', 'a', buffering=1)  # noqa: SIM115  as long as the process
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    torch.set_num_threads(threads)
    start = time.time()
    train(load_config(config, options), work_dir=str(folder), resume='auto', seed=seed)
    metrics = last_metrics(read_scalars(folder))
    if (folder / FILE).exists():
        metrics.update({f'train/{name}': value for name, value in last_epoch(folder).items()})
    _write(folder / 'result.json', dict(metrics=metrics, seconds=round(time.time() - start)))


def _write(path: Path, content: Any) -> None:
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=2) + '\n')
    partial.replace(path)
