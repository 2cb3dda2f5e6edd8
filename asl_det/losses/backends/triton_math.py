"""The loss of an entry in Triton, in its fast form.

An entry costs about 30 machine instructions, 4 of them special functions (exponential, logarithm,
two reciprocals), all in their approximate form; ``docs/speed.md`` has the budget.
``FAST`` takes those of NVIDIA by their PTX name, the portable form serves other GPUs
and Triton's interpreter.
"""

import triton
import triton.language as tl

LN2 = tl.constexpr(0.6931471805599453)
LOG2_E = tl.constexpr(1.4426950408889634)
HUGE = tl.constexpr(1.2676506e30)  # 2^100
SMALL = tl.constexpr(1.1754944e-38)


@triton.jit
def exp2(x):
    return tl.exp2(x)  # one instruction everywhere


@triton.jit
def log2(x, FAST: tl.constexpr):
    if FAST:
        result = tl.inline_asm_elementwise('lg2.approx.ftz.f32 $0, $1;', '=f,f', [x],
                                           dtype=tl.float32, is_pure=True, pack=1)
    else:
        result = tl.log2(x)
    return result


@triton.jit
def reciprocal(x, FAST: tl.constexpr):
    if FAST:
        result = tl.inline_asm_elementwise('rcp.approx.ftz.f32 $0, $1;', '=f,f', [x],
                                           dtype=tl.float32, is_pure=True, pack=1)
    else:
        result = 1.0 / x
    return result


@triton.jit
def _log2_of_sum(t, u, FAST: tl.constexpr):
    """log2(u) with u = 1 + t; where t is small, its digits are lost in u, so a polynomial."""
    near = t * (1.44269449 + t * (-0.72134651 + t * (0.48202839 - t * 0.36180428)))
    return tl.where(tl.abs(t) < 0.0625, near, log2(u, FAST))


@triton.jit
def _power(base, GAMMA: tl.constexpr):
    """base^GAMMA for 0, 1, 2, 3 or 4."""
    if GAMMA == 0:
        result = tl.full(base.shape, 1.0, tl.float32)
    elif GAMMA == 1:
        result = base
    elif GAMMA == 2:
        result = base * base
    elif GAMMA == 3:
        result = base * base * base
    else:
        square = base * base
        result = square * square
    return result


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    """p, 1 - p, and -log2 of 1 - p and of p."""
    e = exp2(tl.abs(x) * -LOG2_E)
    u = 1.0 + e
    larger = reciprocal(u, FAST)
    smaller = e * larger
    p = tl.where(x >= 0, larger, smaller)
    q = tl.where(x >= 0, smaller, larger)
    soft = _log2_of_sum(e, u, FAST)
    return p, q, soft + LOG2_E * tl.maximum(x, 0.0), soft + LOG2_E * tl.maximum(-x, 0.0)


@triton.jit
def plain_branch(p, q, bits, mirror_bits, gamma, GAMMA: tl.constexpr, CONSTANT: tl.constexpr):
    """p^gamma * bits with bits = -log2(1 - p); and the derivative of p^gamma * -log(1 - p)."""
    weight = exp2(-gamma * mirror_bits) if GAMMA < 0 else _power(p, GAMMA)
    slope = p
    if not CONSTANT and GAMMA != 0:
        slope = p + (gamma * LN2) * (tl.minimum(bits, 1000.0) * q)  # not inf * 0
    return weight * bits, weight * slope


@triton.jit
def margin_branch(p, q, gamma, clip, GAMMA: tl.constexpr, HIGH: tl.constexpr,
                   CONSTANT: tl.constexpr, FAST: tl.constexpr):
    """The same with p - clip in the place of p, nothing at or under the margin."""
    p_m = (1.0 - clip) - q if HIGH else p - clip  # the form whose parts are smaller
    p_m = tl.maximum(p_m, 0.0, propagate_nan=tl.PropagateNan.ALL)
    u = q + clip
    bits = -_log2_of_sum(-p_m, u, FAST)
    slope = reciprocal(u, FAST)
    if GAMMA == 0:
        return bits, tl.where(p_m == 0, 0.0, slope * (p * q))
    if GAMMA < 0:  # p_m^(gamma - 1)
        below = exp2((gamma - 1.0) * log2(tl.maximum(p_m, SMALL), FAST))
    else:
        below = _power(p_m, GAMMA - 1)
    slope *= p_m
    if not CONSTANT:
        slope += (gamma * LN2) * bits
    return below * p_m * bits, below * slope * (p * q)


@triton.jit
def negative_branch(x, gamma, clip, GAMMA: tl.constexpr, MARGIN: tl.constexpr, HIGH: tl.constexpr,
                    CONSTANT: tl.constexpr, FAST: tl.constexpr):
    """Value in bits and slope of a negative, all 0 at -inf, and its probability."""
    if MARGIN:  # the logarithm of a large sum is not needed, so signs need not be told apart
        e = tl.minimum(exp2(x * -LOG2_E), HUGE, propagate_nan=tl.PropagateNan.ALL)
        p = reciprocal(1.0 + e, FAST)
        value, slope = margin_branch(p, e * p, gamma, clip, GAMMA, HIGH, CONSTANT, FAST)
    else:
        p, q, neg_bits, pos_bits = sigmoid(x, FAST)
        value, slope = plain_branch(p, q, neg_bits, pos_bits, gamma, GAMMA, CONSTANT)
    return value, slope, p
