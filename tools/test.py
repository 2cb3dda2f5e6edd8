"""Evaluate a checkpoint: the same as ``asl-det test``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this clone, installed or not

from asl_det.commands.main import main  # noqa: E402

if __name__ == '__main__':
    main(['test', *sys.argv[1:]])
