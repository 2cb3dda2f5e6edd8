"""What several operators share."""

from typing import Callable, Sequence

import torch
from torch import Tensor


def missing(name: str) -> Callable:
    """A function in the place of an operator without a stand-in: says so when it is called."""

    def call(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f'the operator {name!r} needs an mmcv with compiled operators, and this one has none: '
            'pip uninstall mmcv-lite, then pip install -U openmim && mim install mmcv '
            '(https://mmcv.readthedocs.io/en/latest/get_started/installation.html)')

    return call


def single(x: Tensor) -> Tensor:
    """Single precision for bfloat16, which torchvision's operators do not take."""
    return x.float() if x.dtype == torch.bfloat16 else x


def write_gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor],
                    grads: Sequence[Tensor], grad_output: Tensor) -> None:
    """Recompute ``function(*inputs)`` and write its gradients into ``grads``."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    found = torch.autograd.grad(output, leaves, grad_output.to(output), allow_unused=True)
    for grad, value in zip(grads, found, strict=True):
        if value is not None:
            grad.copy_(value)
