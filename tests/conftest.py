import gc
import os
import socket
import sys
from pathlib import Path

import pytest

if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ['OMP_NUM_THREADS'] = '1'  # before torch is imported: a worker a core

import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'  # before Triton is imported

from mmengine.logging import MessageHub  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.visualization import Visualizer  # noqa: E402

import asl_det  # noqa: E402, F401  before any import of mmdet.models

sys.path.insert(0, str(Path(__file__).parent))  # tests/reference.py
sys.path.append(str(Path(__file__).parents[1] / 'tools'))  # maintainers' scripts

from processes import without_collections  # noqa: E402

without_collections()


def pytest_collection_finish():
    gc.freeze()  # nor does Python look at torch again and again


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_runner_left():
    """mmengine keeps what a Runner made, by a name and the second of its start, for the next."""
    yield
    classes = [DefaultScope, MessageHub, Visualizer]
    for cls in classes:
        cls._instance_dict.clear()
        classes += cls.__subclasses__()


@pytest.fixture
def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]
