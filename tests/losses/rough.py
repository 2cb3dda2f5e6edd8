"""Special functions that err as far as NVIDIA documents of its instructions, up or down.

Triton's interpreter computes them in numpy, to the last digit; a GPU does not.
"""

import triton
import triton.language as tl


@triton.jit
def _sign(x):
    """-1 or 1, as good as random."""
    mixed = (x.to(tl.int32, bitcast=True) & 0xFFFFF) * 1103
    return (((mixed >> 7) & 1) * 2 - 1).to(tl.float32)


@triton.jit
def exp2(x):
    result = tl.exp2(x)
    return result * (1.0 + 2.4e-7 * _sign(result))  # 2 ulp


@triton.jit
def log2(x, FAST: tl.constexpr):
    result = tl.log2(x)
    off = 2.4e-7 * _sign(x)  # absolute next to 1, relative elsewhere
    return result + off * tl.where((x > 0.5) & (x < 2.0), 1.0, result)


@triton.jit
def reciprocal(x, FAST: tl.constexpr):
    result = 1.0 / x
    return result * (1.0 + 1.2e-7 * _sign(x))  # 1 ulp
