"""When two class names are the same."""

import unicodedata
from typing import Any


def composed(name: Any) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared.

    A letter with an accent may be one character or two (NFD, as macOS writes
    file names); both look alike.
    """
    return unicodedata.normalize('NFC', str(name))


def as_written(name: str, other: str) -> str:
    """A word on a name that differs from another in Unicode form alone, or ''."""
    if name == other or composed(name) != composed(other):
        return ''
    return f' in another Unicode form ({ascii(name)} and {ascii(other)} look alike)'
