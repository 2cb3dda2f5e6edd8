"""What a result was made with: settings, data and code. Runs that differ are not mixed."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Tuple, Union

from filelock import FileLock, Timeout

from asl_det.errors import UserError
from asl_det.files.whole import sha256_of

NOTHING = 'nothing'


def as_plain(node: Any) -> Any:
    """As json holds it; classes and functions by their names, equal in every process."""
    return json.loads(json.dumps(node, default=lambda value: f'{value.__module__}.'
                                 f'{value.__qualname__}' if hasattr(value, '__qualname__')
                                 else str(value)))


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


def hash_file(path: str) -> str:
    """A hash of the content of a file."""
    return sha256_of(path)[:12]
