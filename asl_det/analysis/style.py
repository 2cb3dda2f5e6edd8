"""What the figures share: colours told apart in grey print and by colour-blind readers."""

from pathlib import Path
from typing import ContextManager, List, Union

from matplotlib import rc_context
from matplotlib.figure import Figure

from asl_det.errors import UserError
from asl_det.files.whole import require_output, whole_file

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
    files = files_of(out)
    for path in files:
        with whole_file(path) as file:
            figure.savefig(file, dpi=150, format=path.suffix[1:])
    return files


def files_of(out: Union[str, Path]) -> List[Path]:
    """The files of a figure; UserError if one can not be written."""
    if not Path(out).name:
        raise UserError(f'{str(out)!r}: expected the name of a file, without suffix')
    files = [Path(f'{Path(out)}.{kind}') for kind in ('png', 'pdf')]
    for path in files:
        require_output(path)
    return files
