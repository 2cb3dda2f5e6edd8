"""What a result was made with: settings, data and code. Runs that differ are not mixed."""

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from filelock import FileLock, Timeout
from mmengine.config import Config

import asl_det
from asl_det.errors import UserError
from asl_det.imported_code import imported_code, library_versions, source_hash
from asl_det.named_files import data_of, hash_file, in_one_spelling

PACKAGE = Path(__file__).parent
NOTHING = 'nothing'
__all__ = ['as_plain', 'code_of', 'differences', 'hash_file', 'hold', 'run_identity', 'source_hash',
           'versions']


def run_identity(cfg: Config, seen: Optional[Dict[str, str]] = None) -> Dict[str, Any]:
    """What decides about the result of a training.

    Args:
        cfg: the config with every override, the seed too.
        seen: hashes of files and folders by path; kept between calls, so
            that many runs on the same data read it once.

    Returns:
        ``config``: the resolved values, without ``work_dir``, paths in one
        spelling (``data/`` is ``./data``, and not ``/home/me/data``, since a
        project that is moved stays the same). ``data``: by
        path what lies there, a hash of the content for every file that the
        config names (annotations, class lists, weights, the record of cached
        features); by place the files that the samples of every data set name,
        wherever they lie; by path the other folders that loaders, evaluators
        and model name, and those of a data set that can not be built by
        itself. Of these a hash over all names and contents; where one has
        more than a GiB over names and sizes, and the content of csv, json,
        txt and xml files: an image that is another one of the same size is
        not seen there. Times of files do not count, copies are equal; of a
        URL only its text.
        ``code``: see :func:`code_of`. Plain values: equal after writing and
        reading json. What the machine adds (GPU, number of threads, its
        libraries) does not count.
    """
    content = cfg.to_dict()
    content.pop('work_dir', None)
    data = data_of(content, {} if seen is None else seen)
    return as_plain(dict(config=in_one_spelling(content), data=data, code=code_of(content)))


def code_of(content: Dict[str, Any]) -> Dict[str, Any]:
    """:func:`versions` without the commit, and the modules that a config brings with it."""
    code: Dict[str, Any] = {k: v for k, v in versions().items() if k != 'commit'}
    modules = imported_code(content)
    return dict(code, modules=modules) if modules else code


def as_plain(node: Any) -> Any:
    """As json holds it; classes and functions by their names, equal in every process."""
    return json.loads(json.dumps(node, default=lambda value: f'{value.__module__}.'
                                 f'{value.__qualname__}' if hasattr(value, '__qualname__')
                                 else str(value)))


def versions(package: Path = PACKAGE) -> Dict[str, Optional[str]]:
    """The code that a result came from.

    Returns:
        ``asl_det`` (version), ``asl_det_source`` (hash of the package's
        sources), ``commit`` (where git tracks them, with ``-dirty`` if a
        tracked file differs from it; else None), and
        :func:`asl_det.imported_code.library_versions`.
    """
    return dict(asl_det=asl_det.__version__, asl_det_source=source_hash(package),
                commit=_commit(package), **library_versions())


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
