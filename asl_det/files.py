"""Files that are whole at every moment, whatever ends the process or the machine."""

import hashlib
import io
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Union

import torch
from mmengine.fileio import LocalBackend, register_backend

PARTIAL = '.partial'  # suffix of what is being written


def write_whole(path: Union[str, Path], content: Union[bytes, str]) -> None:
    """Write a file by way of :func:`whole_file`.

    Args:
        path: file; its folder is made.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OSError: as :func:`whole_file`.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Union[str, Path]) -> Iterator[BinaryIO]:
    """A file to write, beside its place until it is whole: the old content or the new, no part.

    The content reaches the disk before the name does (``fsync``), so a power
    loss leaves one of the two as well. What a file is besides its content
    stays: a symbolic link is followed, the mode is that of the old file, and
    what is no regular file (``/dev/null``, a pipe) is written, not replaced.

    Args:
        path: file; its folder is made.

    Raises:
        OSError: as the system says it. After any error the old file is as it
            was, and what was written of the new one is removed.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, 'wb') as file:  # says that a folder is one
            yield file
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = path + PARTIAL
    try:
        with open(partial, 'wb') as file:
            with suppress(FileNotFoundError):
                shutil.copymode(path, partial)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except Exception:
        with suppress(OSError):
            os.unlink(partial)
        raise
    _sync_folder(os.path.dirname(path))


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
