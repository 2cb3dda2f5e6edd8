"""Reading text files as any program writes them."""

import csv
import json
from pathlib import Path
from typing import Any, Iterator, List, Tuple, Union

from asl_det.errors import UserError
from asl_det.file_kind import kind_of_bytes

ENCODING = 'utf-8-sig'  # UTF-8, with or without the byte order mark of Windows programs
HEAD = 512  # bytes that show what a file is
TODO = {'a git-lfs pointer': 'run git lfs pull', 'a gzip archive': 'unpack it',
        'a bzip2 archive': 'unpack it', 'a checkpoint': 'give the file with the data',
        'an HTML page': 'perhaps of a login or an error, download the file again'}


def read_text(path: Union[str, Path]) -> str:
    """The content of a UTF-8 file.

    Raises:
        UserError: if it can not be read, or for another encoding.
    """
    content = _read(path)
    try:
        return content.decode(ENCODING)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, error) from error


def read_json(path: Union[str, Path]) -> Any:
    """The content of a json file.

    Raises:
        UserError: if it is none; says what it is, and where it ends.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        what = what_it_is(text[:HEAD].encode())
        if what:
            raise UserError(f'{path} is no json: it {what}') from error
        if not text[error.pos:].strip() or text.rstrip()[-1] not in ']}':
            raise UserError(f'{path} is no json: it is cut off in line {error.lineno}, after '
                            f'{len(text)} characters: copy or export it again') from error
        raise UserError(f'{path} is no json: {error}') from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise UserError(f'{path} is no json: {error}') from error


def what_it_is(head: bytes) -> str:
    """What else the first bytes of a file are than data, as the end of a sentence, or ''."""
    if not head.strip():
        return 'is empty'
    if head[1:2] == b'\0':
        return 'is UTF-16 text: save it as UTF-8'
    kind = kind_of_bytes(head)
    return f'is {kind}: {TODO[kind]}' if kind in TODO else ''


def read_lines(path: Union[str, Path]) -> List[str]:
    """The lines that are not blank, without white space around them.

    Raises:
        UserError: if it can not be read, is empty, or no list of lines.
    """
    _check_head(path)
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def csv_rows(path: Union[str, Path]) -> Iterator[Tuple[int, List[str]]]:
    """The number of the line and the cells of every row that is not blank.

    Raises:
        UserError: for another encoding, or what is no csv.
    """
    _check_head(path)
    with open(path, newline='', encoding=ENCODING) as file:
        rows = csv.reader(file)
        try:
            for row in rows:
                if row:
                    yield rows.line_num, row
        except UnicodeDecodeError as error:
            raise _wrong_encoding(path, error) from error
        except csv.Error as error:
            raise UserError(f'{path}, line {rows.line_num}: {error}') from error


def _check_head(path: Union[str, Path]) -> None:
    what = what_it_is(_read(path, HEAD))
    if what:
        raise UserError(f'{path} {what}')


def _read(path: Union[str, Path], most: int = -1) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read(most)
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except OSError as error:  # a folder, no permission
        raise UserError(f'{path} can not be read: {error.strerror}') from error


def _wrong_encoding(path: Union[str, Path], error: UnicodeDecodeError) -> UserError:
    _check_head(path)
    return UserError(f'{path} is no UTF-8 text ({error.reason}): save it as UTF-8')
