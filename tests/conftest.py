import os
import sys
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # before Triton is imported

import asl_det  # noqa: E402, F401  before any import of mmdet.models

sys.path.insert(0, str(Path(__file__).parent))  # tests/reference.py
