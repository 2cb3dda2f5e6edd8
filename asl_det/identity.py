"""What a result was made with: settings, data and code. Runs that differ are not mixed."""

import hashlib
import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import mmdet
import mmengine
import torch
from filelock import FileLock, Timeout
from mmengine.config import Config

import asl_det
from asl_det.errors import UserError
from asl_det.files import sha256_of
from asl_det.multilabel.transforms import FEATURES

PACKAGE = Path(__file__).parent
NOTHING = 'nothing'
# Files that count by content where a config names the folder that holds them.
LABELS = ('.csv', '.json', '.txt', '.xml')


def run_identity(cfg: Config, seen: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
    """What decides about the result of a training.

    Args:
        cfg: the config with every override, the seed too.
        seen: hashes of files and folders by path; kept between calls, so
            that many runs on the same data read it once.

    Returns:
        ``config``: the resolved values, without ``work_dir``. ``data``: by
        path what lies there, a hash of the content for every file that the
        config names (annotations, class lists, weights, the record of cached
        features), and for the folders of the data sets a hash over the names
        in them, the sizes of images and the content of csv, json, txt and xml
        files. ``code``: :func:`versions` without the commit. Plain values:
        equal after writing and reading json.
    """
    content = cfg.to_dict()
    content.pop('work_dir', None)
    seen = {} if seen is None else seen
    data = {}
    for path in sorted(set(_named_files(content)) | set(_data_folders(content))):
        if path not in seen:
            seen[path] = _hash_folder(path) if os.path.isdir(path) else hash_file(path)
        data[path] = seen[path]
    code = {k: v for k, v in versions().items() if k != 'commit'}
    return json.loads(json.dumps(dict(config=content, data=data, code=code), default=str))


def versions(package: Path = PACKAGE) -> Dict[str, Optional[str]]:
    """The code that a result came from.

    Returns:
        ``asl_det`` (version), ``asl_det_source`` (hash of the package's
        sources), ``commit`` (where git tracks them, with ``-dirty`` if a
        tracked file differs from it; else None), and the versions of
        ``torch``, ``mmdet`` and ``mmengine``.
    """
    return dict(asl_det=asl_det.__version__, asl_det_source=source_hash(package),
                commit=_commit(package), torch=torch.__version__, mmdet=mmdet.__version__,
                mmengine=mmengine.__version__)


def source_hash(package: Path = PACKAGE) -> str:
    """A hash over names and contents of a package's sources."""
    total = hashlib.sha256()
    for path in sorted(p for p in package.rglob('*') if p.suffix in ('.py', '.c', '.h')):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f'{path.relative_to(package).as_posix()} {content}\n'.encode())
    return total.hexdigest()[:12]


def differences(found: Any, asked: Any) -> List[str]:
    """``key: found -> asked`` for every dotted key that is not the same in both."""
    found, asked = dict(_flatten(found)), dict(_flatten(asked))
    both = {**found, **asked}
    return [f'{key}: ' + ' -> '.join(repr(side[key]) if key in side else NOTHING
                                     for side in (found, asked))
            for key in sorted(both) if key not in found or key not in asked
            or found[key] != asked[key]]


@contextmanager
def hold(folder: Union[str, Path]) -> Iterator[None]:
    """Keep other processes out of a folder; the system lets go of it when this one ends.

    Raises:
        UserError: if another process holds it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder, '.lock'))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f'{folder} is in use by another process: wait for its end, or give '
                        'another folder') from None
    try:
        yield
    finally:
        lock.release()


def _flatten(node: Any, prefix: str = '') -> Iterator[Tuple[str, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list)) and value:
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


def _commit(package: Path) -> Optional[str]:
    def git(*args: str) -> str:
        return subprocess.run(['git', '-C', str(package), *args], capture_output=True, text=True,
                              check=True).stdout.strip()
    try:
        git('ls-files', '--error-unmatch', '__init__.py')  # not a repository around site-packages
        return git('describe', '--always', '--dirty', '--exclude=*')
    except (OSError, subprocess.CalledProcessError):
        return None


def _named_files(node: Any, root: str = '') -> Iterator[str]:
    """The files that values of a config name, as they are or under a data_root."""
    if isinstance(node, dict):
        root = node.get('data_root') or root
        for value in node.values():
            yield from _named_files(value, root)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _named_files(value, root)
    elif isinstance(node, str) and '\n' not in node:
        for path in {node, os.path.join(root, node)}:
            yield from (p for p in (path, os.path.join(path, FEATURES)) if os.path.isfile(p))


def _data_folders(node: Any) -> Iterator[str]:
    """The folders of every data set in a config: its prefixes, or else its root."""
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _data_folders(value)
    elif isinstance(node, dict):
        for value in node.values():
            yield from _data_folders(value)
        if 'ann_file' in node:
            root = node.get('data_root') or ''
            prefixes = (node.get('data_prefix') or {'': ''}).values()
            folders = (os.path.join(root, p) for p in prefixes if isinstance(p, str))
            yield from (f for f in folders if os.path.isdir(f) and not _holds_results(f))


def _holds_results(folder: str) -> bool:
    """Whether the working directory lies in it, where runs leave files."""
    return Path(folder).resolve() in (Path.cwd(), *Path.cwd().parents)


def hash_file(path: str) -> str:
    """A hash of the content of a file."""
    return sha256_of(path)[:12]


def _hash_folder(folder: str) -> str:
    total, count = hashlib.sha256(), 0
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            if not os.path.exists(path):
                what = 'a link to nothing'
            else:
                what = hash_file(path) if name.endswith(LABELS) else os.path.getsize(path)
            total.update(f'{os.path.relpath(path, folder)} {what}\n'.encode())
            count += 1
    return f'{count} files, {total.hexdigest()[:12]}'
