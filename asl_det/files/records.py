"""Records of a run: one json object a line, readable after a crash."""

import json
import logging
import os
from pathlib import Path
from typing import Any, Dict, List, Union

from mmengine.logging import print_log

from asl_det.errors import UserError

Record = Dict[str, Any]
FEATURES = 'features.json'  # says what the cached features of a folder were made with
PROBABILITIES = 'probabilities.jsonl'  # what ProbabilityMonitorHook writes


def read_records(path: Union[str, Path], needs: str = 'step') -> List[Record]:
    """All records of a file.

    A broken last line, what a process that was killed leaves, is left out with
    a warning in the log.

    Args:
        path: of the file.
        needs: a key that every record has.

    Raises:
        UserError: for any other line that is no record, with its number.
    """
    lines = Path(path).read_bytes().split(b'\n')
    while lines and not lines[-1].strip():
        lines.pop()
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:  # no json, or bytes that are no text
            if number == len(lines):
                print_log(f'{path}, line {number}: the last record is cut off ({error}) and left '
                          'out', logger='current', level=logging.WARNING)
                break
            raise UserError(f'{path}, line {number}: {error}; expected a json object. Delete the '
                            'line to read the others') from error
        if not isinstance(record, dict) or needs not in record:
            raise UserError(f'{path}, line {number}: expected a json object with a {needs}, got '
                            f'{line[:60]!r}. Delete the line to read the others')
        records.append(record)
    return records


def append_record(path: Union[str, Path], record: Record) -> None:
    """Add a record; the half line that a killed process left at the end is removed first."""
    with open(path, 'a+b') as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        if end and file.read(1) != b'\n':
            file.seek(0)
            file.truncate(file.read().rfind(b'\n') + 1)
        file.write(json.dumps(record).encode() + b'\n')
