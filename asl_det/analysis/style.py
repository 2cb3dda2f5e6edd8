"""What the figures share: colours told apart in grey print and by colour-blind readers."""

from pathlib import Path
from typing import List, Union

from matplotlib.figure import Figure

COLOURS = ('#000000', '#e69f00', '#56b4e9', '#d55e00', '#009e73', '#cc79a7', '#0072b2')
LINES = ('-', '--', ':', '-', '-.', '--', ':')


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
