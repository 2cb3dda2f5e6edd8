"""Reading text files as any program writes them."""

import csv
from pathlib import Path
from typing import Iterator, List, Tuple, Union

from asl_det.errors import UserError

ENCODING = 'utf-8-sig'  # UTF-8, with or without the byte order mark of Windows programs


def read_text(path: Union[str, Path]) -> str:
    """The content of a UTF-8 file.

    Raises:
        UserError: for another encoding.
    """
    try:
        return Path(path).read_text(encoding=ENCODING)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, error) from error


def read_lines(path: Union[str, Path]) -> List[str]:
    """The lines that are not blank, without white space around them."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def csv_rows(path: Union[str, Path]) -> Iterator[Tuple[int, List[str]]]:
    """The number of the line and the cells of every row that is not blank.

    Raises:
        UserError: for another encoding, or what is no csv.
    """
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


def _wrong_encoding(path: Union[str, Path], error: UnicodeDecodeError) -> UserError:
    return UserError(f'{path} is no UTF-8 text ({error.reason}): save it as UTF-8')
