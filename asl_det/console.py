"""Output on a terminal where names and paths are shown as they are."""

from typing import Any

from rich.console import Console


def plain_console(**kwargs: Any) -> Console:
    """A rich Console that reads no markup (``[red]``) and no emoji (``:dog:``) in texts.

    Args:
        **kwargs: as of ``rich.console.Console``.
    """
    return Console(markup=False, emoji=False, highlight=False, **kwargs)
