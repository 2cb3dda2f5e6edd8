"""Files that are whole at every moment, whatever ends the process or the machine."""

import errno
import hashlib
import io
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, Optional, Union

import torch
from mmengine.fileio import LocalBackend, register_backend

from asl_det.errors import OutputError, UserError

PARTIAL = '.partial'  # suffix of what is being written


def write_whole(path: Union[str, Path], content: Union[bytes, str]) -> None:
    """Write a file by way of :func:`whole_file`.

    Args:
        path: file; its folder is made.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OutputError: as :func:`whole_file`.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Union[str, Path], sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write, beside its place until it is whole: the old content or the new, no part.

    The content reaches the disk before the name does (``fsync``), so a power
    loss leaves one of the two as well. What a file is besides its content
    stays: a symbolic link is followed, the mode is that of the old file, and
    what is no regular file (``/dev/null``, a pipe) is written, not replaced.

    Args:
        path: file; its folder is made.
        sync: without it a power loss may leave a part; for files that can be made again.

    Raises:
        OutputError: with the path, for what the system says. After any error
            the old file is as it was, and what was written of the new one is
            removed.
    """
    given, path = path, os.path.realpath(path)
    partial = path + PARTIAL
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, 'wb') as file:  # says that a folder is one
                yield file
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(partial, 'wb') as file:
            with suppress(FileNotFoundError):
                shutil.copymode(path, partial)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except Exception as error:
        with suppress(OSError):
            os.unlink(partial)
        if isinstance(error, OSError):
            raise OutputError(error.errno, error.strerror or str(error), str(given)) from error
        raise
    if sync:
        _sync_folder(os.path.dirname(path))


def require_output(path: Union[str, Path, None], flag: str = '', *, folder: bool = False) -> None:
    """Raise UserError if a file can not be written here, before the work that it is for.

    Args:
        path: None for nothing to write.
        flag: the option that gave it, for the message.
        folder: the files go into it; it need not be there.
    """
    wrong = None if path is None else why_not_writable(path, folder)
    if wrong:
        raise UserError(f'{flag} {path}: {wrong}'.strip())


def why_not_writable(path: Union[str, Path], folder: bool) -> Optional[str]:
    """What keeps a file, or files in a folder, from being written; None for nothing."""
    if not str(path):
        return f'expected the name of a {"folder" if folder else "file"}, got nothing'
    path = os.path.abspath(path)
    try:
        os.lstat(path + PARTIAL)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return 'the name is too long: give a shorter one'
    if not folder:
        if os.path.isdir(path):
            return f'is a folder: expected a file, such as {os.path.join(path, "results.json")}'
        if os.path.exists(path) and not os.path.isfile(path):
            return None  # a device or a pipe
        path = os.path.dirname(path)
    found = nearest_that_exists(path)
    if not found.is_dir():
        what = 'a file' if found.exists() else 'a link to nothing'
        return f'{found} is {what}: expected a folder'
    try:
        with tempfile.TemporaryFile(dir=found, buffering=0) as file:
            file.write(b'x')  # a full disk has room for names
    except OSError as error:
        return (f'{found} can not be written ({error.strerror}): give another folder, make room or '
                'change its permissions')
    return None


def nearest_that_exists(path: Union[str, Path]) -> Path:
    """The file or folder, or the nearest folder above it that is there."""
    found = Path(os.path.abspath(path))
    while not os.path.lexists(found) and found != found.parent:
        found = found.parent
    return found


def save_whole(content: Any, path: Union[str, Path]) -> None:
    """``torch.save`` by way of :func:`write_whole`."""
    file = io.BytesIO()
    torch.save(content, file)
    write_whole(path, file.getvalue())


def sha256_of(path: Union[str, Path]) -> str:
    """The SHA-256 of a file's content, in hex."""
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _sync_folder(folder: str) -> None:
    """Make the renaming itself survive a power loss, where the system can."""
    with suppress(OSError):  # Windows and some network file systems open no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@register_backend('asl_det.whole', force=True)  # a module may be imported again
class WholeFileBackend(LocalBackend):
    """mmengine's local storage, with files that are whole at every moment."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        write_whole(filepath, obj)

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        write_whole(filepath, obj.encode(encoding))


class PatientBackend(WholeFileBackend):
    """Removes when it is told that the new file is there."""

    def __init__(self) -> None:
        self.waiting: Optional[List[str]] = None

    @contextmanager
    def removing_later(self) -> Iterator[List[str]]:
        self.waiting = []
        try:
            yield self.waiting
        finally:
            self.waiting = None

    def remove(self, filepath: str) -> None:
        if self.waiting is None:
            super().remove(filepath)
        else:
            self.waiting.append(filepath)
