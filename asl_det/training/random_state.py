"""The random generators of this process, as plain data."""

import random
from typing import Any, Dict

import numpy as np
import torch


def random_state() -> Dict[str, Any]:
    """Where ``random``, ``numpy``, ``torch`` and, where it is used, the current GPU are."""
    state = dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state())
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Dict[str, Any]) -> None:
    """Go on where :func:`random_state` was called."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())  # a checkpoint is loaded to the training's device
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
