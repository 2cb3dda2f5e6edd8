import sys
from pathlib import Path

import asl_det  # noqa: F401  before any import of mmdet.models

sys.path.insert(0, str(Path(__file__).parent))  # tests/reference.py
