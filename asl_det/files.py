"""Files that are whole at every moment, whatever ends the process or the machine."""

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Union

import torch
from mmengine.fileio import LocalBackend, register_backend

PARTIAL = '.partial'  # suffix of what is being written


def write_whole(path: Union[str, Path], content: Union[bytes, str]) -> None:
    """Write a file beside its place and rename it: the old content or the new, never a part.

    The content reaches the disk before the name does (``fsync``), so a power
    loss leaves one of the two as well.

    Args:
        path: file; its folder is made.
        content: bytes, or text that is written as UTF-8.

    Raises:
        OSError: as the system says it; the old file is as it was, and what
            was written of the new one is removed.
    """
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = path + PARTIAL
    try:
        with open(partial, 'wb') as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            os.unlink(partial)
        raise
    _sync_folder(os.path.dirname(path))


def save_whole(content: Any, path: Union[str, Path]) -> None:
    """``torch.save`` by way of :func:`write_whole`."""
    file = io.BytesIO()
    torch.save(content, file)
    write_whole(path, file.getvalue())


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
