"""Names and values as they are: compared, and shown in messages and on a terminal."""

import unicodedata
from typing import Any

from rich.console import Console


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


def plain_console(**kwargs: Any) -> Console:
    """A rich Console that reads no markup (``[red]``) and no emoji (``:dog:``) in texts.

    Args:
        **kwargs: as of ``rich.console.Console``.
    """
    return Console(markup=False, emoji=False, highlight=False, **kwargs)


def shown(value: Any, most: int = 60) -> str:
    """A value of a file in a message."""
    text = repr(value)
    return text if len(text) <= most else f'{text[:most]}...'
