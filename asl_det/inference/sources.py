"""The pictures that a command line names: files, folders, patterns, videos."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple, Union

import cv2
import numpy as np

from asl_det.errors import UserError
from asl_det.inference.pipeline import UnreadableError

VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')


@dataclass(frozen=True)
class Picture:
    """A file that should be a picture, or a URL.

    Attributes:
        path: as it is read.
        name: relative path under which results are kept.
    """

    path: str
    name: str

    @property
    def state(self) -> List[int]:
        """Size and time of the last change; a file with others is another picture."""
        if not os.path.isfile(self.path):
            return []
        found = os.stat(self.path)
        return [found.st_size, found.st_mtime_ns]

    @property
    def is_video(self) -> bool:
        return self.path.lower().endswith(VIDEOS)


def find_pictures(inputs: Sequence[str], leave_out: Union[str, Path]) -> List[Picture]:
    """Every file that is asked for, once, in the order of the inputs and then of names.

    Args:
        inputs: files, folders (with the folders in them), patterns with
            ``*``, ``?`` or ``[]``, or URLs. Hidden files of folders are left
            out, all others are taken.
        leave_out: a folder that is not searched, because results lie there.

    Raises:
        UserError: if an input is not there, or holds no file.
    """
    found: List[Picture] = []
    for text in inputs:
        if '://' in text:
            found.append(Picture(text, os.path.basename(text.split('?')[0]) or 'picture'))
        elif os.path.isdir(text):
            files = list(_files_in(text, Path(leave_out).resolve()))
            if not files:
                raise UserError(f'{text} holds no files')
            found += [Picture(path, os.path.relpath(path, text)) for path in files]
        elif os.path.exists(text):
            found.append(Picture(text, os.path.basename(text)))
        elif glob.has_magic(text):
            matches = [p for p in sorted(glob.glob(text, recursive=True)) if os.path.isfile(p)]
            if not matches:
                raise UserError(f'{text}: no file matches')
            found += [Picture(path, os.path.basename(path)) for path in matches]
        else:
            raise UserError(f'{text} does not exist: give pictures, folders of them, patterns or '
                            'videos')
    return list({_identity(picture.path): picture for picture in reversed(found)}.values())[::-1]


def frames(picture: Picture) -> Iterator[Tuple[int, np.ndarray]]:
    """Number and content of every frame of a video, BGR.

    Raises:
        UnreadableError: if there is none.
    """
    video = cv2.VideoCapture(picture.path)
    number = 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            yield number, frame
            number += 1
    finally:
        video.release()
    if not number:
        raise UnreadableError(f'{picture.path}: damaged, or a video that OpenCV does not know')


def video_facts(picture: Picture) -> Tuple[int, float]:
    """How many frames a video says that it has, at least 1, and frames a second."""
    video = cv2.VideoCapture(picture.path)
    count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    video.release()
    return max(int(count), 1), rate if rate > 0 else 25.0


def _files_in(folder: str, leave_out: Path) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith('.')
                            and Path(where, f).resolve() != leave_out)
        yield from (os.path.join(where, name) for name in sorted(names)
                    if not name.startswith('.'))


def _identity(path: str) -> str:
    return path if '://' in path else os.path.realpath(path)
