"""The pictures that a command line names: files, folders, patterns, videos."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Collection, Iterator, List, Sequence, Set, Tuple, Union

import cv2
import numpy as np

from asl_det.errors import UserError
from asl_det.inference.pipeline import UnreadableError

MADE_WITH, RECORDS = 'made_with.json', 'predictions.jsonl'  # of a folder with results
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


def find_pictures(inputs: Sequence[str], out: Union[str, Path]) -> Tuple[List[Picture], List[str]]:
    """Every file that is asked for, once, in the order of the inputs and then of names.

    Results are no inputs: what lies in ``out`` is left out however it is
    named (a shell fills in patterns too), and what lies in a folder of results
    that a search of a folder or pattern comes upon.

    Args:
        inputs: files, folders (with the folders in them), patterns with
            ``*``, ``?`` or ``[]``, or URLs. Hidden files of folders are left
            out, all others are taken.
        out: folder for the results.

    Returns:
        The pictures, and the folders of results in which files were left out.

    Raises:
        UserError: if an input is not there, or holds no file.
    """
    found: List[Picture] = []
    results = _Results(out)
    for text in inputs:
        before = set(results.seen)
        if '://' in text:
            found.append(Picture(text, os.path.basename(text.split('?')[0]) or 'picture'))
        elif os.path.isdir(text):
            files = [p for p in _files_in(text) if not results.hold(p, text)]
            if not files:
                raise UserError(f'{text} holds no files' + results.but(before))
            found += [Picture(path, os.path.relpath(path, text)) for path in files]
        elif os.path.exists(text):
            if not results.hold(text, os.path.dirname(text)):
                found.append(Picture(text, os.path.basename(text)))
        elif glob.has_magic(text):
            start = _start(text)
            matches = [p for p in sorted(glob.glob(text, recursive=True))
                       if os.path.isfile(p) and not results.hold(p, start)]
            if not matches:
                raise UserError(f'{text}: no file matches' + results.but(before))
            found += [Picture(path, os.path.basename(path)) for path in matches]
        else:
            raise UserError(f'{text} does not exist: give pictures, folders of them, patterns or '
                            'videos')
    if not found:
        raise UserError(f'{", ".join(inputs[:3])}: no file is left' + results.but())
    pictures = {picture_key(picture.path): picture for picture in reversed(found)}
    return list(pictures.values())[::-1], sorted(results.seen)


def frames(picture: Picture) -> Iterator[Tuple[int, np.ndarray]]:
    """Number and content of every frame of a video, BGR.

    Raises:
        UnreadableError: if there is none; after the last one, if there are
            clearly fewer than the video says.
    """
    video = cv2.VideoCapture(picture.path)
    number, stated = 0, video.get(cv2.CAP_PROP_FRAME_COUNT)
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
    if number < 0.95 * stated - 2:  # some containers estimate the number
        raise UnreadableError(f'{picture.path}: ends after {number} of {stated:.0f} frames, cut '
                              'off or damaged there; those before it have results')


def video_facts(picture: Picture) -> Tuple[int, float]:
    """How many frames a video says that it has, at least 1, and frames a second."""
    video = cv2.VideoCapture(picture.path)
    count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    video.release()
    return max(int(count), 1), rate if rate > 0 else 25.0


def picture_key(path: str) -> str:
    """What all spellings of a path have in common, links followed."""
    return path if '://' in path else os.path.realpath(path)


class _Results:
    """Folders with results: ``out``, and those that say so by their records.

    Attributes:
        seen: those in which a file was found.
    """

    def __init__(self, out: Union[str, Path]) -> None:
        self.seen: Set[str] = set()
        self._out = os.path.realpath(out)
        # One that is not yet made, or of others, is no folder of results: the store says so.
        self._known = {self._out: os.path.isfile(os.path.join(out, MADE_WITH))}

    def hold(self, path: str, start: str) -> bool:
        """Whether a file that a search from ``start`` on has found is a result.

        A folder of results that is not below ``start`` was asked for.
        """
        stop = os.path.realpath(start)
        folder = os.path.dirname(os.path.realpath(path))
        inside = [folder, *map(str, Path(folder).parents)]
        below = inside[:inside.index(stop)] if stop in inside else []
        for folder in [*below, self._out]:
            if folder in inside and self._has_records(folder):
                self.seen.add(folder)
                return True
        return False

    def but(self, before: Collection[str] = ()) -> str:
        """The end of a sentence: what was seen since ``before``."""
        seen = sorted(self.seen.difference(before))
        return f' but results of {", ".join(seen[:3])}' if seen else ''

    def _has_records(self, folder: str) -> bool:
        if folder not in self._known:
            self._known[folder] = all(
                os.path.isfile(os.path.join(folder, name)) for name in (MADE_WITH, RECORDS))
        return self._known[folder]


def _start(pattern: str) -> str:
    """The folder from which a pattern searches."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _files_in(folder: str) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith('.'))
        yield from (os.path.join(where, name) for name in sorted(names)
                    if not name.startswith('.'))
