"""Reading text files as any program writes them."""

import csv
import json
from pathlib import Path
from typing import Any, Iterator, List, Tuple, Union

from asl_det.errors import UserError
from asl_det.files.kind import kind_of_bytes

ENCODING = 'utf-8-sig'  # UTF-8, with or without the byte order mark of Windows programs
HEAD = 512  # bytes that show what a file is
TODO = {'UTF-16 text': 'save it as UTF-8', 'a git-lfs pointer': 'run git lfs pull',
        'a gzip archive': 'unpack it', 'a bzip2 archive': 'unpack it',
        'a checkpoint': 'give the file with the data',
        'an HTML page': 'perhaps of a login or an error, download the file again'}

IN_WORDS = {dict: 'an object', list: 'a list', str: 'a text', int: 'a number', float: 'a number',
            bool: 'true or false', type(None): 'null'}
NUMBER, ID = (int, float), (int, str)  # not bool
MISSING = object()  # of a key that a record does not have


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


def expect_shape(content: Any, shape: Any, where: Union[str, Path], key: str = '') -> None:
    """Compare what a json file holds with what is read from it.

    Args:
        content: of the file, or a part of it.
        shape: ``object`` for anything; a type or several; a list of one shape,
            that of every item, or of the shapes of all items; or a dict of
            keys and their shapes. A key that ends in ``?`` may be missing,
            the key ``*`` stands for every other one, and keys that are not
            listed are free.
        where: the file, for the message.
        key: place of the part in the file.

    Raises:
        UserError: for something else, with its key.
    """
    if shape is object:
        return
    types = shape if isinstance(shape, tuple) else (
        shape if isinstance(shape, type) else type(shape),)
    if type(content) not in types:
        found = json.dumps(content)
        raise UserError(f'{where}: {key or "the content"} is '
                        f'{found if len(found) < 60 else found[:60] + "..."}: expected '
                        + ' or '.join(dict.fromkeys(map(IN_WORDS.get, types))))
    if isinstance(shape, list):
        if len(shape) > 1 and len(content) != len(shape):
            raise UserError(f'{where}: {key} has {len(content)} items: expected {len(shape)}')
        for i, item in enumerate(content):
            expect_shape(item, shape[i if len(shape) > 1 else 0], where, f'{key}[{i}]')
    elif isinstance(shape, dict):
        inside = f'{key}.' if key else ''
        for name, inner in shape.items():
            plain = name.rstrip('?')
            if name == '*':
                for other in content.keys() - {n.rstrip('?') for n in shape}:
                    expect_shape(content[other], inner, where, inside + other)
            elif plain in content:
                expect_shape(content[plain], inner, where, inside + plain)
            elif plain == name:
                raise UserError(f'{where}: {inside}{name} is missing')


def what_it_is(head: bytes) -> str:
    """What else the first bytes of a file are than data, as the end of a sentence, or ''."""
    if not head.strip():
        return 'is empty'
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
