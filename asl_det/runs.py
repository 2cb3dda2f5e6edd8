"""The folder of a run: what it holds, and from which checkpoint a training goes on."""

import glob
import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from asl_det.errors import UserError
from asl_det.records import PROBABILITIES

LAST = 'last_checkpoint'
FINISHED = '.finished'  # names the checkpoint of a training that has run to its end


class Start(NamedTuple):
    """What a training begins with.

    Attributes:
        checkpoint: file or URL, or None.
        resume: whether the checkpoint is gone on from, not only its weights.
        passed_over: newer checkpoints, and why they do not load.
        overwritten: files of an older run, to be removed when this one begins.
    """

    checkpoint: Optional[str]
    resume: bool
    passed_over: List[str]
    overwritten: List[str]


def choose_start(cfg: Config, resume: Optional[str], overwrite: bool) -> Start:
    """Settle what a training begins with; without a checkpoint to resume, with ``load_from``.

    Args:
        cfg: with ``work_dir``.
        resume: a checkpoint, 'auto' for the newest of the run that loads, or
            None for what the config says.
        overwrite: begin anew where the folder holds a run.

    Raises:
        UserError: if the folder holds a run and neither is asked for, both
            are, or none of its checkpoints loads.
    """
    load_from, here = cfg.get('load_from'), own_checkpoints(cfg)
    auto = resume == 'auto' or (resume is None and cfg.get('resume') and not load_from)
    if overwrite and (resume or cfg.get('resume')):
        raise UserError('--overwrite begins anew and --resume goes on: give one of them')
    if resume not in (None, 'auto'):
        return Start(resume, True, [], [])
    if auto:
        newest, passed_over = newest_that_loads(here)
        return Start(newest or load_from, newest is not None, passed_over, [])
    if not here or cfg.get('resume'):
        return Start(load_from, bool(cfg.get('resume')), [], [])
    if not overwrite:
        raise UserError(f'{cfg.work_dir} holds a run already ({os.path.basename(here[0])}): '
                        '--resume goes on with it, --overwrite removes it and begins anew, '
                        'another --work-dir keeps it')
    old = [*here, *_others(cfg, os.path.dirname(here[0]))]
    if load_from and os.path.abspath(load_from) in map(os.path.abspath, old):
        raise UserError(f'load_from={load_from} belongs to the run that --overwrite would remove: '
                        'give another --work-dir')
    return Start(load_from, False, [], old)


def own_checkpoints(cfg: Config) -> List[str]:
    """The checkpoints of a run that can be resumed, the newest first.

    That is the one named by ``last_checkpoint`` where it is none of the
    default hook's, then those of that hook by their epochs and iterations.
    """
    found: List[Tuple[Tuple[int, ...], str]] = []
    folder, name = _place(cfg, (cfg.get('default_hooks') or {}).get('checkpoint') or {})
    if '://' not in folder and os.path.isdir(folder):
        for path in Path(folder).iterdir():
            match = name.fullmatch(path.name)
            if match:
                numbers = tuple(int(n) for n in match.groups(default='0'))
                found.append((numbers, str(path)))
    paths = [path for _, path in sorted(found, reverse=True)]
    last = Path(cfg.work_dir, LAST)
    named = last.read_text('utf-8', 'replace').strip() if last.is_file() else ''
    known = map(os.path.abspath, paths)
    if named and os.path.abspath(named) not in known and ('://' in named or os.path.isfile(named)):
        paths.insert(0, named)
    return paths


def newest_that_loads(paths: List[str]) -> Tuple[Optional[str], List[str]]:
    """The first checkpoint that can be resumed, and why those before it can not.

    Raises:
        UserError: if there are some and none can.
    """
    passed_over: List[str] = []
    for path in paths:
        try:
            found = CheckpointLoader.load_checkpoint(path, map_location='cpu')
            if isinstance(found, dict) and 'iter' in found.get('meta', {}):
                return path, passed_over
            passed_over.append(f'{path}: it holds no state of a training')
        except (OSError, UserError) as error:
            passed_over.append(f'{path}: {error}')
    if passed_over:
        raise UserError('--resume: no checkpoint of the run loads: ' + '; '.join(passed_over)
                        + '. --overwrite begins anew, --resume CHECKPOINT goes on from another')
    return None, passed_over


def remove(paths: List[str]) -> None:
    """Remove files and folders; those that are gone are no error."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def _place(cfg: Config, hook: Dict[str, Any]) -> Tuple[str, re.Pattern]:
    """Folder and names of the checkpoints of a hook, as mmengine makes them."""
    folder = str(hook.get('out_dir') or cfg.work_dir)
    if folder != cfg.work_dir:
        folder = os.path.join(folder, os.path.basename(cfg.work_dir.rstrip(os.sep)))
    template = hook.get('filename_tmpl') or (
        'epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth')
    before, _, after = template.partition('{}')
    return folder, re.compile(rf'{re.escape(before)}(\d+)(?:_iter_(\d+))?{re.escape(after)}')


def _others(cfg: Config, folder: str) -> Iterator[str]:
    """What else a run leaves, and a new one would mix with its own; text logs stay."""
    yield from (os.path.join(cfg.work_dir, name) for name in (LAST, FINISHED, PROBABILITIES))
    yield from glob.glob(os.path.join(glob.escape(folder), 'best_*.pth'))
    yield from glob.glob(os.path.join(glob.escape(cfg.work_dir), '*', 'vis_data'))
