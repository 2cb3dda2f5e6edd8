"""Triton kernels for CUDA. Imported on demand: Triton may be missing.

The fast path of a GPU. Its contract: value and gradient of an entry are within 1e-5 relative or
1e-6 absolute of float64 for logits in [-120, 120], the sum within 1e-6 relative or
1e-8 an entry (2e-6 where one entry makes it and its special functions err as far as documented);
everything is finite where the loss is, and a badly missed positive keeps its gradient. Closer
than 1e-5 to the margin, a gradient with ``gamma_neg < 1``, which jumps there, may be that of the
other side. The paths in C and torch keep 1e-5 relative throughout.

A step is one kernel in the forward pass, which reads the logits once and writes loss and
gradient, and in the backward pass one that multiplies the gradient by the incoming factor, and
returns at once where that is 1: the host never waits to know. Programs write sums of their own
and the last one adds them in order, so results do not depend on the order of programs.
"""

import functools
import os
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import triton
from torch import Tensor

from asl_det.losses.backends import triton_kernels as kernels
from asl_det.losses.types import Batch, Result, Settings, Statistics, last_under

INTEGER_GAMMAS = (0, 1, 2, 3, 4)  # those that the kernel multiplies out
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'  # runs on CPU tensors, for tests
FAST = torch.version.cuda is not None and not INTERPRETED  # else without NVIDIA's instructions
PROGRAMS = 2048  # wanted; the same on every GPU, and so are the sums
SMALL = 1 << 22  # entries up to which a launch costs more than its choice of blocks
BLOCK, LARGEST_BLOCK, LARGEST_SPAN = 1024, 4096, 1 << 16
CONFIGS = [triton.Config(dict(BLOCK=block), num_warps=warps)
           for block, warps in ((1024, 4), (2048, 4), (2048, 8), (4096, 8))]
# Timed at the first call of a kind. That runs the kernel many times: it writes what it does not
# read, so the results are those of one run.
tuned_kernel = triton.autotune(
    CONFIGS[1:2] if INTERPRETED else CONFIGS,
    key=['COLS', 'DENSE', 'GAMMA_NEG', 'MARGIN', 'STATISTICS'])(kernels.one_pass_kernel)


class Launch(NamedTuple):
    """A kernel with what it is started with; the first argument tells the device."""
    kernel: Any
    programs: int
    args: Sequence[Any]
    kwargs: Dict[str, Any]


def one_pass(logits: Tensor, batch: Batch, settings: Settings, *, want_values: bool,
             want_grad: bool, want_loss: bool, want_statistics: bool, mean: bool,
             upstream: Optional[Tensor]) -> Result:
    """See :func:`asl_det.losses.one_pass.run`. One kernel, without a host synchronisation."""
    launch, result = prepare(logits, batch, settings, want_values=want_values,
                             want_grad=want_grad, want_loss=want_loss,
                             want_statistics=want_statistics, mean=mean, upstream=upstream)
    start(launch)
    return result


def prepare(logits: Tensor, batch: Batch, settings: Settings, *, want_values: bool = False,
            want_grad: bool = False, want_loss: bool = False, want_statistics: bool = False,
            mean: bool = False, upstream: Optional[Tensor] = None) -> Tuple[Launch, Result]:
    """The launch that computes a pass, and where its result is going to be."""
    x, s, entries = logits.contiguous(), settings, logits.numel()
    values = torch.empty(x.shape, dtype=torch.float32, device=x.device) if want_values else None
    grad = torch.empty(x.shape, dtype=x.dtype, device=x.device) if want_grad else None
    small = entries <= SMALL
    unit = BLOCK if small else LARGEST_BLOCK
    span = unit * min(triton.cdiv(entries, unit * PROGRAMS), LARGEST_SPAN // unit)
    programs = triton.cdiv(entries, span)
    loss = done = None
    sums: Any = None
    if want_loss:  # the loss apart from the sums: it may be kept, and changed in place
        loss = torch.empty((), dtype=torch.float32, device=x.device)
        sums = torch.empty(1 + programs, kernels.SUMS.value, dtype=torch.float64,
                           device=x.device)
        done = _done(x.device, _stream(x.device))
    beside = [None if w is None else w.contiguous() for w in (
        batch.row_weight, batch.col_weight, batch.entry_weight, upstream, batch.factor)]
    targets = batch.targets.contiguous()
    if targets.dtype == torch.bool:
        targets = targets.view(torch.uint8)
    launch = Launch(
        kernels.one_pass_kernel if small else tuned_kernel, programs,
        (x, targets, *beside, values, grad, sums, loss, done, entries, span, float(s.gamma_pos),
         float(s.gamma_neg), s.scale_pos, s.scale_neg, float(s.clip), last_under(s.clip),
         int(s.ignore_index)),
        dict(COLS=x.size(-1), DENSE=not batch.as_index, GAMMA_POS=_integer(s.gamma_pos),
             GAMMA_NEG=_integer(s.gamma_neg), MARGIN=s.clip > 0, HIGH=s.clip > 0.5,
             CONSTANT=s.constant_focus, STATISTICS=want_statistics, MEAN=mean, FAST=FAST,
             WIDTH=16 // x.element_size(), **(dict(BLOCK=BLOCK, num_warps=4) if small else {})))
    return launch, Result(loss, sums[0, 7] if mean else 1.0, -1, values, grad,
                          Statistics(*sums[0, 1:6]) if want_statistics else None)


def start(launch: Launch) -> None:
    """Start a kernel, without waiting for it."""
    with torch.cuda.device_of(launch.args[0]):
        launch.kernel[(launch.programs,)](*launch.args, **launch.kwargs)


def scale_(grad: Tensor, factor: Tensor, correction: Union[float, Tensor] = 1.0) -> Tensor:
    """Multiply a contiguous ``grad`` in place by 0-dim numbers; no traffic where that is by 1."""
    block = LARGEST_BLOCK
    start(Launch(kernels.scale_kernel, min(triton.cdiv(grad.numel(), block), PROGRAMS),
                 (grad, factor, correction if isinstance(correction, Tensor) else None,  # else 1
                  grad.numel()), dict(BLOCK=block)))
    return grad


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream if device.type == 'cuda' else 0


@functools.lru_cache(maxsize=None)
def _done(device: torch.device, stream: int) -> Tensor:
    """How many programs of a launch have ended: 0 between the launches of a stream."""
    return torch.zeros((), dtype=torch.int32, device=device)


@functools.lru_cache(maxsize=None)
def problem(device: torch.device) -> Optional[str]:
    """Why the kernels can not run on a device, or None; tried out once a device.

    Triton needs a C compiler at run time and a GPU that it compiles for, and
    says so only when a kernel starts.
    """
    try:
        one_pass(torch.zeros(1, 1, device=device), Batch(torch.zeros(1, 1, device=device)),
                 Settings(0.0, 4.0, 0.05, None, False, -1, 1.0), want_values=False,
                 want_grad=True, want_loss=True, want_statistics=False, mean=False, upstream=None)
        scale_(torch.zeros(1, device=device), torch.ones((), device=device))
    except Exception as error:  # of Triton, its compilers or the driver
        return f'{type(error).__name__}: {error}'.strip().splitlines()[-1]
    return None


def _integer(gamma: Union[float, Tensor]) -> int:
    """The exponent if the kernel multiplies it out, else -1."""
    return int(gamma) if gamma in INTEGER_GAMMAS else -1
