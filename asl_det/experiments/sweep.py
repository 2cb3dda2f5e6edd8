"""Ordinary trainings over a grid of settings and seeds, with mean and spread."""

import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asl_det.analysis.training_curves import last_epoch, read_scalars
from asl_det.config.run_identity import run_identity
from asl_det.engine import load_config, train
from asl_det.errors import UserError, check_seed
from asl_det.experiments.table import differences_to
from asl_det.files.code import versions
from asl_det.files.identity import differences, hold
from asl_det.files.records import PROBABILITIES, read_records
from asl_det.files.whole import require_output, write_whole
from asl_det.preflight.checks import CHECKS, CONFIG, require
from asl_det.preflight.run import Run

Settings = Dict[str, Any]
Variants = Dict[str, Settings]
Job = Tuple[str, int]  # variant and seed
RECORD, RESULT, LOG = 'run.json', 'result.json', 'train.log'
MOST_DIFFERENCES = 6  # in one line


def sweep(config: str,
          variants: Variants,
          seeds: Sequence[int],
          work_dir: str,
          *,
          options: Optional[Settings] = None,
          jobs: int = 1,
          gpus: Sequence[str] = (),
          anew: bool = False,
          baseline: Optional[str] = None) -> Dict[str, Any]:
    """Train every variant with every seed.

    A run is what ``asl-det train`` would do, in ``<work_dir>/<variant>/seed<n>``
    with its output in ``train.log``. Finished runs are not repeated and
    interrupted ones continue, so the same call goes on where it was. What a
    run was made with (:func:`asl_det.files.identity.run_identity`) is in its
    ``run.json``; a run of anything else is not used. The runs end with the
    process that called this, however it ends.

    Args:
        config: config file.
        variants: name -> dotted keys of the config and their values.
        seeds: one training each.
        work_dir: folder of the sweep; one process at a time.
        options: dotted keys and values for all runs.
        jobs: runs at a time; the CPU's cores are shared among them.
        gpus: as in ``CUDA_VISIBLE_DEVICES``; one run at a time on each, in
            the place of ``jobs``.
        anew: a run made with something else is put aside (``seed<n>.old1``)
            and trained again, not an error.
        baseline: variant that the others are compared to; None: the first.

    Returns:
        A record with command, versions and, for every variant, the
        settings and ``metrics``: name -> ``mean``, ``std`` (of the sample,
        None for one value) and ``values``, one a seed, of the last
        validation, and as ``train/...`` the median time of an iteration and the
        means of the last epoch from a ``ProbabilityMonitorHook``. A value is
        None where a run failed or did not report the metric. All variants but
        the ``baseline`` have ``differences`` to it, see
        :func:`asl_det.experiments.table.differences_to`. ``failed`` has a
        text for every run that did. Also written to ``<work_dir>/sweep.json``.

    Raises:
        UserError: if a folder holds a run made with something else, another
            sweep uses ``work_dir``, a seed stands twice or is out of range,
            two variants are the same, or the name of one can not be that of
            a folder.
    """
    _check_arguments(variants, seeds, jobs)
    require_output(work_dir, '--work-dir', folder=True)
    options = dict(options or {})
    runs = [(name, seed) for seed in seeds for name in variants]
    folders = {run: Path(work_dir, run[0], f'seed{run[1]}') for run in runs}
    settings = {run: {**options, **variants[run[0]], 'randomness.seed': run[1]} for run in runs}
    configs = {run: load_config(config, settings[run], quiet=True) for run in runs}
    for i, name in enumerate(variants):  # their data is mostly the same
        require(Run(configs[name, seeds[0]], f'{config} ({name})', 'train'),
                CONFIG if i else CHECKS)
    made_with = versions()
    with hold(work_dir):
        seen: Dict[str, str] = {}
        identities = {run: run_identity(cfg, seen) for run, cfg in configs.items()}
        _check_records(folders, identities, anew)
        for run in runs:
            _write(folders[run] / RECORD, identities[run])
        todo = [run for run in runs if _result(folders[run]) is None]
        codes = _train_all({run: (config, settings[run], folders[run]) for run in todo},
                           len(runs), list(gpus) or [None] * jobs)
        results = {run: _result(folders[run]) for run in runs}
        failed = {f'{run[0]}/seed{run[1]}': _why(folders[run] / LOG, codes[run])
                  for run in todo if results[run] is None}
        record = dict(config=config, options=options, command=' '.join(sys.argv),
                      versions=made_with, seeds=list(seeds), failed=failed,
                      baseline=baseline or next(iter(variants)), variants={
                          name: dict(settings=variants[name], metrics=_summarize(
                              [results[name, seed] for seed in seeds]))
                          for name in variants})
        metrics = {name: variant['metrics'] for name, variant in record['variants'].items()}
        for name in variants:
            if name != record['baseline']:
                record['variants'][name]['differences'] = differences_to(
                    metrics[record['baseline']], metrics[name])
        _write(Path(work_dir, 'sweep.json'), record)
    return record


def grid_variants(grid: Dict[str, List[Any]]) -> Variants:
    """Every combination of the values of each key.

    Args:
        grid: dotted key, or several joined by ``,`` that share a value, ->
            values.

    Raises:
        UserError: if a value stands twice.
    """
    variants: Variants = {'': {}}
    for keys, values in grid.items():
        # A loss is a name already.
        short = '' if keys == 'loss' else f'{keys.split(",")[0].split(".")[-1]}-'
        for i, value in enumerate(values):
            # True equals 1 in Python, but not in a config.
            if any(value == other and isinstance(value, bool) == isinstance(other, bool)
                   for other in values[:i]):
                raise UserError(f'--grid {keys}: the value {value} stands there twice')
        variants = {f'{name}{"_" if name else ""}{short}{_as_name(value)}':
                    {**settings, **dict.fromkeys(keys.split(','), value)}
                    for name, settings in variants.items() for value in values}
    if len(variants) != math.prod(map(len, grid.values())):
        raise UserError('--grid: some values have the same name as a folder; name them with '
                        '--variant')
    return variants


def last_metrics(scalars: Dict[str, Tuple[List[float], List[float]]]) -> Dict[str, float]:
    """The metrics (names with a slash) of the last validation of a run.

    COCO's -1, of sizes that no object has, is none.
    """
    return {name: values[-1] for name, (_, values) in scalars.items()
            if '/' in name and not (name.startswith('coco/') and values[-1] == -1)}


def iteration_seconds(folder: Path) -> Optional[float]:
    """Median time of a training iteration over all records of a run."""
    times = [row['time'] for log in folder.glob('*/vis_data/scalars.json')
             for row in read_records(log) if 'time' in row and 'loss' in row]
    return statistics.median(times) if times else None


def _check_arguments(variants: Variants, seeds: Sequence[int], jobs: int) -> None:
    for name in variants:
        if not name or name.startswith('.') or Path(name).name != name:
            raise UserError(f'a variant is named {name!r}: expected the name of a folder')
    names = {}
    for name, settings in variants.items():
        same = names.setdefault(json.dumps(settings, sort_keys=True, default=repr), name)
        if same != name:
            raise UserError(f'variants {same} and {name} have the same settings: leave one out')
    if len(set(seeds)) != len(seeds):
        raise UserError(f'seeds {list(seeds)}: one stands there twice')
    if not seeds:
        raise UserError('seeds: expected at least one')
    for seed in seeds:
        check_seed(seed)
    if jobs < 1:
        raise UserError(f'jobs={jobs}: expected at least 1')


def _as_name(value: Any) -> str:
    """A value as part of the name of a folder."""
    return re.sub(r'[\s/\\]+', '_', str(value).replace(', ', ','))


def _check_records(folders: Dict[Job, Path], identities: Dict[Job, Dict[str, Any]],
                   anew: bool) -> None:
    """Refuse folders with other runs, or put them aside."""
    other = {}
    for run, folder in folders.items():
        if folder.is_dir() and any(folder.iterdir()):
            found = _read(folder / RECORD)
            lacks = 'its {} is cut off' if (folder / RECORD).exists() else 'it has no {}'
            changes = (differences(found, identities[run]) if isinstance(found, dict)
                       else [f'{lacks.format(RECORD)}, which says what it was made with'])
            if changes:
                other[folder] = changes
    if other and not anew:
        folder, changes = next(iter(other.items()))
        rest = len(changes) - MOST_DIFFERENCES
        text = '; '.join(changes[:MOST_DIFFERENCES]) + (f'; {rest} more' if rest > 0 else '')
        raise UserError(f'{folder} holds a run made with something else ({text})'
                        + (f' and {len(other) - 1} more folders do' if len(other) > 1 else '')
                        + ': give another --work-dir, or --overwrite to put such runs aside and '
                        'train them again')
    for folder in other:
        folder.rename(next(name for name in (folder.with_name(f'{folder.name}.old{i}')
                                             for i in count(1)) if not name.exists()))
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)


def _train_all(todo: Dict[Job, tuple], total: int, slots: List[Optional[str]]) -> Dict[Job, int]:
    """Train in processes of their own, one a slot (a GPU, or None: a share of the CPU).

    Args:
        todo: arguments of :func:`_train` by run.
        total: runs, with those that are finished.

    Returns:
        The exit codes.
    """
    import mmdet.datasets  # noqa: F401  once, before the runs are forked
    import mmdet.models  # noqa: F401

    context = multiprocessing.get_context(start_method())
    threads = max(1, (os.cpu_count() or 1) // len(slots))
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(elapsed_when_finished=True))
    waiting, free, running, codes = list(todo), list(slots), {}, {}
    with Progress(*columns) as progress:
        task = progress.add_task('runs', total=total, completed=total - len(todo))
        try:
            while waiting or running:
                while waiting and free:
                    run, slot = waiting.pop(0), free.pop(0)
                    process = context.Process(target=_train, args=(*todo[run], slot, threads))
                    _start(process, slot)
                    running[process.sentinel] = (run, process, slot)
                for sentinel in wait(list(running)):
                    run, process, slot = running.pop(sentinel)
                    process.join()
                    codes[run] = process.exitcode
                    free.append(slot)
                    progress.advance(task)
        finally:
            for _, process, _ in running.values():
                _end(process)
    return codes


def start_method() -> str:
    """CUDA does not survive a fork; without a GPU one import serves all runs."""
    return 'spawn' if torch.cuda.is_available() else 'fork'


def _start(process: BaseProcess, gpu: Optional[str]) -> None:
    """Start a process that sees one GPU: the choice must be there before CUDA is."""
    before = os.environ.get('CUDA_VISIBLE_DEVICES')
    try:
        if gpu is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = gpu
        process.start()
    finally:
        if before is not None:
            os.environ['CUDA_VISIBLE_DEVICES'] = before
        elif gpu is not None:
            del os.environ['CUDA_VISIBLE_DEVICES']


def _end(process: BaseProcess) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its data loaders too
    except ProcessLookupError:  # it leads no group yet
        process.kill()
    process.join()


def _end_with_parent() -> None:
    """End this process and its children when the sweep ends, even if that was killed."""
    with suppress(PermissionError):  # it leads a session already
        os.setpgid(0, 0)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _train(config: str, settings: Settings, folder: Path, gpu: Optional[str], threads: int) -> None:
    """One run, in a process of its own."""
    _end_with_parent()
    log = open(folder / LOG, 'a', 1, 'utf-8', 'replace')  # noqa: SIM115  as long as the process
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    torch.set_num_threads(threads)
    if gpu is not None and not torch.cuda.is_available():
        raise UserError(f'torch finds no GPU {gpu}')
    start = time.time()
    cfg = load_config(config, settings)
    # Initial weights of the config count until there is a checkpoint of the run.
    train(cfg, work_dir=str(folder), resume='auto')
    metrics = last_metrics(read_scalars(folder))
    seconds = iteration_seconds(folder)
    if seconds is not None:
        metrics['train/seconds_per_iteration'] = seconds
    if (folder / PROBABILITIES).exists():
        try:
            means = last_epoch(folder)
        except (ValueError, KeyError) as error:  # a cut line is not worth the run
            print(f'no means of the last epoch: {folder / PROBABILITIES}: {error!r}')
        else:
            metrics.update({f'train/{name}': value for name, value in means.items()})
    _write(folder / RESULT, dict(metrics=metrics, seconds=round(time.time() - start)))


def _result(folder: Path) -> Optional[Dict[str, float]]:
    """The metrics of a run; None if it failed."""
    found = _read(folder / RESULT)
    metrics = found.get('metrics') if isinstance(found, dict) else None
    if isinstance(metrics, dict) and all(isinstance(m, (int, float)) for m in metrics.values()):
        return metrics
    if (folder / RESULT).exists():
        print(f'{folder / RESULT} is cut off or no result of a run: it is made again, from the '
              'checkpoint and the logs of the run', flush=True)
    return None


def _summarize(results: List[Optional[Dict[str, float]]]) -> Dict[str, Dict[str, Any]]:
    """Mean, spread and values of every metric that any of the runs has."""
    metrics = {}
    for name in dict.fromkeys(m for r in results if r for m in r):
        values = [r.get(name) if r else None for r in results]
        there = [v for v in values if v is not None]
        metrics[name] = dict(mean=statistics.fmean(there), values=values,
                             std=statistics.stdev(there) if len(there) > 1 else None)
    return metrics


def _why(log: Path, code: int) -> str:
    """How a failed run ended, the last thing that it said, and where it said it."""
    lines = log.read_text('utf-8', 'replace').split('\n') if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), 'it wrote nothing')
    last = last.removeprefix(f'{UserError.__module__}.UserError: ')
    return (f'ended by signal {-code}: ' if code < 0 else '') + f'{last} ({log})'


def _read(path: Path) -> Optional[Dict[str, Any]]:
    try:
        return json.loads(path.read_text('utf-8'))
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content, indent=2) + '\n')
