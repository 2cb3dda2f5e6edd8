"""What is kept of a run over pictures: nothing is lost, nothing is computed twice."""

import csv
import hashlib
import io
import json
import os
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Union

import numpy as np
from PIL import Image

from asl_det.errors import UserError
from asl_det.files.identity import differences, hold
from asl_det.files.reading import expect_shape, read_json
from asl_det.files.records import Record, append_record, read_records
from asl_det.files.whole import write_whole
from asl_det.inference.sources import MADE_WITH, RECORDS, Picture, picture_key

DRAWN, FRAMES = 'pictures', '.frames/'
AS_IS = ('.jpg', '.jpeg', '.png')  # other kinds of files are drawn as png


class Store:
    """A folder with drawn pictures and predictions, held by one process at a time.

    ``predictions.jsonl`` grows by a line a picture, after its drawing is
    complete; ``predictions.json`` and ``predictions.csv`` are made of it at
    the end, whole or not at all.

    Args:
        folder: it is made if missing.
        made_with: what results depend on, plain values.
        anew: put a folder that was made with something else aside.

    Raises:
        UserError: if the folder was made with something else, or is in use.
    """

    def __init__(self, folder: Union[str, Path], made_with: Dict[str, Any],
                 anew: bool = False) -> None:
        self.folder = Path(folder)
        self.anew = anew
        self._made_with = json.loads(json.dumps(made_with))
        self._records: Dict[str, Dict[Optional[int], Record]] = {}  # of a path, by frame
        self._names: Dict[str, str] = {}
        self._taken: Set[str] = set()

    def __enter__(self) -> 'Store':
        self._stack = ExitStack()
        if self._holds_others():
            raise UserError(f'{self.folder} holds other things than results of pictures: give '
                            'another --out')
        self._stack.enter_context(hold(self.folder))
        found = self._found()
        if found not in (None, self._made_with) and (self.folder / RECORDS).exists():
            self._stack.close()
            if not self.anew:
                changes = '; '.join(differences(found, self._made_with)[:5])
                raise UserError(f'{self.folder} holds results made with something else ({changes}):'
                                ' give another --out, or --overwrite to put them aside')
            self.folder.rename(next(name for name in (
                self.folder.with_name(f'{self.folder.name}.old{i}') for i in count(1))
                if not name.exists()))
            self._stack.enter_context(hold(self.folder))
        write_whole(self.folder / MADE_WITH, json.dumps(self._made_with, indent=2) + '\n')
        if (self.folder / RECORDS).is_file():
            for record in read_records(self.folder / RECORDS, needs='path'):
                self._keep(record)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def find(self, picture: Picture, frame: Optional[int] = None) -> Optional[Record]:
        """What is kept of this picture, as it is now, if it is finished."""
        record = self._records.get(picture_key(picture.path), {}).get(frame)
        finished = (record is not None and record['state'] == picture.state
                    and (self.folder / record['drawn']).is_file())
        return record if finished else None

    def add(self, picture: Picture, frame: Optional[int], drawn: np.ndarray,
            result: List[Dict[str, Any]], more: Dict[str, Any]) -> None:
        """Keep the drawing ``(H, W, 3)`` RGB, and then the predictions, of a picture."""
        target = self.drawn_name(picture)
        if frame is not None:
            target = f'{target}{FRAMES}{frame:06d}.jpg'
        encoded = io.BytesIO()
        kind = 'PNG' if target.lower().endswith('.png') else 'JPEG'
        Image.fromarray(drawn).save(encoded, kind, quality=92)
        write_whole(self.folder / target, encoded.getvalue())
        # A run that goes on may spell the path of a video in another way.
        file = next((r['file'] for r in self.of(picture)), picture.path)
        record = dict(path=picture_key(picture.path), file=file, name=picture.name,
                      state=picture.state, drawn=target, result=result, **more)
        if frame is not None:
            record['frame'] = frame
        append_record(self.folder / RECORDS, record)
        self._keep(record)

    def drawn_name(self, picture: Picture) -> str:
        """Where a picture is drawn, relative to the folder; no two share a place."""
        key = picture_key(picture.path)
        if key not in self._names:
            parts = [part for part in Path(picture.name).parts if part not in ('..', os.sep)]
            name = Path(DRAWN, *parts)
            if picture.is_video:
                name = name.with_name(f'{name.stem}.mp4')
            elif name.suffix.lower() not in AS_IS:
                name = name.with_name(f'{name.name}.png')
            if name.as_posix() in self._taken:
                digest = hashlib.sha256(key.encode()).hexdigest()[:8]
                name = name.with_name(f'{name.stem}-{digest}{name.suffix}')
            self._names[key] = name.as_posix()
            self._taken.add(name.as_posix())
        return self._names[key]

    def records(self) -> Iterator[Record]:
        """Everything that is kept, in the order in which it first came."""
        for kept in self._records.values():
            yield from kept.values()

    def finish(self, as_json: Callable[[Iterator[Dict[str, Any]]], List[Any]],
               as_rows: Callable[[Iterator[Dict[str, Any]]], List[List[Any]]]) -> None:
        """Write ``predictions.json`` and ``predictions.csv``.

        Args:
            as_json: makes the list of the json file of the records.
            as_rows: makes the rows of the csv file, the header among them.
        """
        write_whole(self.folder / 'predictions.json', json.dumps(as_json(self.records())) + '\n')
        text = io.StringIO()
        csv.writer(text, lineterminator='\n').writerows(as_rows(self.records()))
        write_whole(self.folder / 'predictions.csv', text.getvalue())

    def of(self, picture: Picture) -> Iterator[Record]:
        """What is kept of a picture, or of the frames of a video, as it is now."""
        state = picture.state
        return (record for record in self._records.get(picture_key(picture.path), {}).values()
                if record['state'] == state)

    def _keep(self, record: Record) -> None:
        kept = self._records.setdefault(record['path'], {})
        if any(first['state'] != record['state'] for first in islice(kept.values(), 1)):
            kept.clear()  # the frames of a video that is another one now
        kept[record.get('frame')] = record
        name = record['drawn'].rpartition(FRAMES)[0] if 'frame' in record else record['drawn']
        self._names[record['path']] = name
        self._taken.add(name)

    def _found(self) -> Optional[Dict[str, Any]]:
        path = self.folder / MADE_WITH
        if not path.is_file():
            return None
        found = read_json(path)
        expect_shape(found, {}, path)
        return found

    def _holds_others(self) -> bool:
        names = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []
        return MADE_WITH not in names and any(
            not name.startswith('.') and not name.endswith('.partial') for name in names)
