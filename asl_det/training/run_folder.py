"""The folder of a run: what it holds, and from which checkpoint a training goes on."""

import os
import re
import shutil
import string
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from asl_det.errors import UserError
from asl_det.files.records import PROBABILITIES

LAST = 'last_checkpoint'
FINISHED = '.finished'  # names the checkpoint of a training that has run to its end
ASIDE = 'abandoned_'  # before a time: a folder of checkpoints that a training was not gone on from
TIME = r'\d{8}_\d{6}'  # of a run, as mmengine writes it


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
    load_from, (here, newer) = cfg.get('load_from'), own_checkpoints(cfg)
    auto = resume == 'auto' or (resume is None and cfg.get('resume') and not load_from)
    if overwrite and (resume or cfg.get('resume')):
        raise UserError('--overwrite begins anew and --resume goes on: give one of them')
    if resume not in (None, 'auto'):
        return Start(resume, True, [], [])
    if auto:
        newest, passed_over = newest_that_loads(here, newer)
        return Start(newest or load_from, newest is not None, passed_over, [])
    if not here + newer or cfg.get('resume'):
        return Start(load_from, bool(cfg.get('resume')), [], [])
    if not overwrite:
        first = os.path.basename([*here, *newer][0])
        raise UserError(f'{cfg.work_dir} holds a run already ({first}): '
                        '--resume goes on with it, --overwrite removes it and begins anew, '
                        'another --work-dir keeps it')
    folder, names = _place(cfg, (cfg.get('default_hooks') or {}).get('checkpoint') or {})
    own = [path for path in [*here, *newer] if any(
        same_path(os.path.dirname(path), place) for place in (folder, cfg.work_dir))]
    old = [*own, *_others(cfg, folder, names)]
    if load_from and os.path.abspath(load_from) in map(os.path.abspath, old):
        raise UserError(f'load_from={load_from} belongs to the run that --overwrite would remove: '
                        'give another --work-dir')
    return Start(load_from, False, [], old)


def own_checkpoints(cfg: Config) -> Tuple[List[str], List[str]]:
    """The checkpoints of a run that can be resumed, the newest first, and those of another branch.

    That is the one that ``last_checkpoint`` names, then those before it, by
    epochs and iterations. A file with a higher number is of a training that
    was given up for an earlier checkpoint, or was just being written: it is
    named and not taken. In a folder that was copied or moved, the copy is
    meant. One that lies elsewhere is the start of a training that was ended
    before it saved.
    """
    folder, names = _place(cfg, (cfg.get('default_hooks') or {}).get('checkpoint') or {})
    files: List[Tuple[Tuple[int, ...], str]] = []
    if '://' not in folder and os.path.isdir(folder):
        files = sorted(((number, str(path)) for path in Path(folder).iterdir()
                        if (number := names.number(path.name))), reverse=True)
    last = Path(cfg.work_dir, LAST)
    named = last.read_text('utf-8', 'replace').strip() if last.is_file() else ''
    until = names.number(os.path.basename(named))
    if '://' not in named:
        here = [os.path.join(place, os.path.basename(named)) for place in (folder, cfg.work_dir)]
        named = next((path for path in [*here, named] if named and os.path.isfile(path)), '')
    paths = [path for number, path in files if not until or number <= until]
    newer = [path for number, path in files if path not in paths]
    if named:
        paths = [named, *(path for path in paths if not same_path(path, named))]
    return paths, newer


class FileNames(str):
    """``filename_tmpl`` of a checkpoint hook, which names states in the middle of an epoch too.

    The number may have a format of its own, ``epoch_{:03d}.pth``.

    Raises:
        UserError: if there is not one number in it.
    """

    def __new__(cls, template: str) -> 'FileNames':
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise UserError(f'filename_tmpl={template!r}: {error}') from None
        numbers = [part for part in parts if part[1] is not None]
        if len(numbers) != 1 or numbers[0][1] not in ('', '0'):
            raise UserError(f'filename_tmpl={template!r}: expected one {{}} in it, the place of '
                            "the number, e.g. 'epoch_{}.pth'")
        self = super().__new__(cls, template)
        self._parts = parts
        before, after = (''.join(re.escape(text) for text, *_ in half)
                         for half in (parts[:1], parts[1:]))
        number = rf'{before}\s*(\d+)(?:_iter_(\d+))?{after}'
        self._pattern = re.compile(number)
        self._best = re.compile(rf'best_.+?_{number}')
        return self

    def format(self, step: Union[int, str]) -> str:
        """The name for a number, or for ``'2_iter_1240'``, in the third epoch."""
        count, _, inside = str(step).partition('_')
        (before, _, form, _), *rest = self._parts
        return ''.join([before, format(int(count), form), inside and f'_{inside}',
                        *(text for text, *_ in rest)])

    def number(self, name: str, best: bool = False) -> Tuple[int, ...]:
        """Epochs (or iterations) and iterations of a file's name; nothing for any other name.

        Args:
            name: of a file.
            best: take ``best_<metric>_`` before it, which such a file has.
        """
        match = (self._best if best else self._pattern).fullmatch(name)
        return tuple(int(n) for n in match.groups(default='0')) if match else ()


def same_path(path: str, other: str) -> bool:
    return os.path.abspath(path) == os.path.abspath(other)


def newest_that_loads(paths: List[str], newer: Sequence[str] = ()
                      ) -> Tuple[Optional[str], List[str]]:
    """The first checkpoint that can be resumed, and why those before it can not.

    Args:
        paths: candidates, see :func:`own_checkpoints`.
        newer: of another branch; passed over.

    Raises:
        UserError: if there are some and none can.
    """
    passed_over = [f'{path}: {LAST} names one before it, so it is of another branch of the run '
                   f'(--resume {path} goes on from it)' for path in newer]
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


def newer_files(folder: str, names: FileNames, epoch: Optional[int], iteration: int) -> List[str]:
    """Checkpoints in a folder, best ones too, that have more behind them than a training.

    Args:
        folder: local.
        names: of the checkpoints.
        epoch: of the training; None where names count iterations.
        iteration: of the training.
    """
    found = []
    for name in sorted(os.listdir(folder)):
        number = names.number(name) or names.number(name, best=True)
        if number and (number[0] > iteration if epoch is None else
                       number > (epoch, iteration if number[1] else 0)):
            found.append(os.path.join(folder, name))
    return found


def put_aside(paths: List[str], folder: str) -> None:
    """Move files into a folder."""
    os.makedirs(folder, exist_ok=True)
    for path in paths:
        os.replace(path, os.path.join(folder, os.path.basename(path)))


def remove(paths: List[str]) -> None:
    """Remove files and folders, one of :data:`ASIDE` if it is empty; gone ones are no error."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            if os.path.basename(path).startswith(ASIDE):
                with suppress(OSError):  # something of another's is in it
                    os.rmdir(path)
            else:
                shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def _place(cfg: Config, hook: Dict[str, Any]) -> Tuple[str, FileNames]:
    """Folder and names of the checkpoints of a hook, as mmengine makes them."""
    folder = str(hook.get('out_dir') or cfg.work_dir)
    if folder != cfg.work_dir:
        folder = os.path.join(folder, os.path.basename(cfg.work_dir.rstrip(os.sep)))
    return folder, FileNames(hook.get('filename_tmpl') or (
        'epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth'))


def _others(cfg: Config, folder: str, names: FileNames) -> Iterator[str]:
    """What else a run leaves, and a new one would mix with its own; text logs stay.

    Files and folders of people that are called alike stay too.
    """
    yield from (os.path.join(cfg.work_dir, name) for name in (LAST, FINISHED, PROBABILITIES))
    if '://' not in folder and os.path.isdir(folder):
        aside = [path for path in Path(folder).iterdir()
                 if path.is_dir() and not path.is_symlink()
                 and re.fullmatch(f'{ASIDE}{TIME}', path.name)]
        for path in (path for place in (Path(folder), *aside) for path in place.iterdir()):
            if names.number(path.name, best=True) or (
                    path.parent in aside and names.number(path.name)):
                yield str(path)
        yield from map(str, aside)
    for path in Path(cfg.work_dir).glob('*/vis_data'):
        if re.fullmatch(TIME, path.parent.name):
            yield str(path)
