"""Where the command ``asl-det`` starts: help comes before the seconds that importing mmdet takes.

Python imports the whole of ``asl_det`` before any module in it, and with it torch and mmdet. The
arguments of the commands need neither, so the package is put in place here, read the command line
with, and only then executed.
"""

import importlib.util
import sys
from typing import Optional, Sequence


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run a command of ``asl-det``.

    Args:
        arguments: of the command line; None for those of this process.
    """
    start = None
    if 'asl_det' not in sys.modules:
        spec = importlib.util.find_spec('asl_det')
        package = sys.modules['asl_det'] = importlib.util.module_from_spec(spec)

        def start() -> None:
            spec.loader.exec_module(package)

    from asl_det.commands.main import main
    main(arguments, start)
