"""What the official implementations compute, and the rule that their weights follow.

Each json file has cases with the names and shapes of the official state dict
(``keys``), the shape of the input and the first 64 logits of every row,
float32 on a CPU. Weights are a function of their names, so none are stored.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch


def case(file, name):
    """Official weights, input and logits of a case."""
    found = json.loads((Path(__file__).parent / f'{file}.json').read_text())[name]
    weights = {key: weight(key, shape) for key, shape in found['keys'].items()}
    inputs = np.random.default_rng(0).random(found['input_shape'])
    return weights, torch.tensor(inputs, dtype=torch.float32), torch.tensor(found['logits'])


def weight(name, shape):
    if name.endswith('num_batches_tracked'):
        return torch.zeros(shape, dtype=torch.long)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith('running_var'):
        numbers = rng.random(shape) + 0.5
    elif len(shape) > 1:
        numbers = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        numbers = rng.standard_normal(shape) * 0.3 + float(name.endswith('weight'))
    return torch.tensor(numbers, dtype=torch.float32)
