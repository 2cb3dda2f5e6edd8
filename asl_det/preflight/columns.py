"""A list of records of a json file, as columns: what lacks a key or has a value of another type."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from asl_det.files.reading import MISSING, NUMBER
from asl_det.files.text import shown
from asl_det.preflight.finding import Box, Finding

LARGEST = sys.float_info.max


class Table:
    """The records of one list of a json file; those that are no dicts are left out.

    Args:
        path: the file.
        name: key of the list.
        records: its value.
    """

    def __init__(self, path: Union[str, Path], name: str, records: Sequence[Any]) -> None:
        self.path, self.name = path, name
        self.kept = [i for i, r in enumerate(records) if isinstance(r, dict)]
        self.others = ([] if len(self.kept) == len(records) else
                       [(i, r) for i, r in enumerate(records) if not isinstance(r, dict)])
        self.records: List[Dict[str, Any]] = [records[i] for i in self.kept]

    def __len__(self) -> int:
        return len(self.records)

    def column(self, key: str) -> List[Any]:
        return [r.get(key, MISSING) for r in self.records]

    def where(self, row: int) -> str:
        """File, position and id of a record."""
        number = self.records[row].get('id', MISSING)
        text = '' if number is MISSING else f' (id {shown(number)})'
        return f'{self.path}: {self.name}[{self.kept[row]}]{text}'

    def finding(self, rule: str, row: int, message: str, error: bool = True,
                images: Tuple[str, ...] = (), boxes: Tuple[Box, ...] = ()) -> Finding:
        return Finding(rule, self.where(row), message, error, images, boxes)

    def no_dicts(self) -> Iterator[Finding]:
        for i, record in self.others:
            yield Finding(f'{self.name} without keys', f'{self.path}: {self.name}[{i}]',
                          f'got {shown(record)}: expected a json object with keys')

    def missing(self, key: str, values: Sequence[Any], todo: str) -> Iterator[Finding]:
        """Records without a key."""
        for row, value in enumerate(values):
            if value is MISSING:
                yield self.finding(f'no {key}', row, f'has no {key}: {todo}')

    def of_type(self, key: str, values: Sequence[Any], types: Tuple[type, ...], expected: str
                ) -> Iterator[Finding]:
        """Records whose value has another type; those that lack it are left out."""
        if set(map(type, values)) <= {*types, object}:
            return
        for row, value in enumerate(values):
            if value is not MISSING and type(value) not in types:
                yield self.finding(f'type of {key}', row,
                                   f'{key} {shown(value)}: expected {expected}')

    def blank(self, key: str, values: Sequence[Any]) -> Iterator[Finding]:
        """Records whose text is empty."""
        for row, value in enumerate(values):
            if value == '':
                yield self.finding(f'no {key}', row, f'{key} is an empty text')

    def repeated(self, key: str, values: Sequence[Any], consequence: str, error: bool = True
                 ) -> Iterator[Finding]:
        """Every record whose value an earlier one has."""
        known = [v for v in values if hashable(v)]
        if len(set(known)) == len(known):
            return
        count, first = Counter(known), {}
        for row, value in enumerate(values):
            if not hashable(value) or count[value] == 1:
                continue
            if value in first:
                yield self.finding(
                    f'{key} twice', row, f'{key} {shown(value)} is that of '
                    f'{self.name}[{self.kept[first[value]]}] too: {consequence}', error)
            first.setdefault(value, row)


def hashable(value: Any) -> bool:
    """Whether a value can be an id or a name."""
    return type(value) in (int, float, str)


def numbers(values: Sequence[Any]) -> np.ndarray:
    """Float64 ``(N,)``; NaN for what is no number."""
    if not set(map(type, values)) <= set(NUMBER):
        values = [v if type(v) in NUMBER else np.nan for v in values]
    try:
        return np.array(values, np.float64)
    except OverflowError:  # whole numbers of hundreds of digits
        return np.array([np.inf if abs(v) > LARGEST else v for v in values], np.float64)


def rows_of(mask: np.ndarray) -> List[int]:
    return np.flatnonzero(mask).tolist()


def as_findings(rule: str, path: Optional[Union[str, Path]], errors: Sequence[Exception],
                error: bool = True) -> Iterator[Finding]:
    """Errors of a reader, which name the file first, as findings."""
    for found in errors:
        text = str(found)
        start = text.removeprefix(str(path))
        yield Finding(rule, str(path), start.lstrip(' ,:') if path else text, error)
