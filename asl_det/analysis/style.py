"""What the figures share: colours told apart in grey print and by colour-blind readers."""

from pathlib import Path
from typing import ContextManager, List, Union

from matplotlib import rc_context
from matplotlib.figure import Figure

COLOURS = ('#000000', '#e69f00', '#56b4e9', '#d55e00', '#009e73', '#cc79a7', '#0072b2')
LINES = ('-', '--', ':', '-', '-.', '--', ':')


def literal() -> ContextManager[None]:
    """Where figures show texts as they are: class names and paths may hold ``$`` and ``_``.

    A decorator, too. Not for axes with a log scale, whose numbers are formulas.
    """
    return rc_context({'text.parse_math': False, 'text.usetex': False})


def legend_label(name: str) -> str:
    """A name that a legend shows; matplotlib leaves out those that begin with ``_``."""
    return f' {name}' if name.startswith('_') else name


def save(figure: Figure, out: Union[str, Path]) -> List[Path]:
    """Write a figure as ``out.png`` and ``out.pdf``."""
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    files = [out.with_name(f'{out.name}.{kind}') for kind in ('png', 'pdf')]
    for file in files:
        figure.savefig(file, dpi=150)
    return files
