"""The kernels of :mod:`asl_det.losses.backends.triton`: what runs on the GPU."""

import triton
import triton.language as tl

from asl_det.losses.backends.triton_math import (
    LN2,
    margin_branch,
    negative_branch,
    plain_branch,
    sigmoid,
)

ROWS = tl.constexpr(128)  # rows at once where positives are made
SUMS = tl.constexpr(8)  # loss, p_pos, p_neg, n_pos, n_neg, n_under, known, entries / known
TAIL = tl.constexpr(512)  # entries of a tile that need not be full
CHUNK = tl.constexpr(64)  # programs at once where their sums are added
TINY_CLASSES = tl.constexpr(8)  # with fewer, every entry takes both branches


@triton.jit
def _load(pointer, at, end, PARTIAL: tl.constexpr):
    """The entries at ``at``, in their dtype; 0 from ``end`` on."""
    # Without a mask a thread loads 16 bytes at once.
    return tl.load(pointer + at, mask=at < end, other=0) if PARTIAL else tl.load(pointer + at)


@triton.jit
def _store(pointer, at, value, end, PARTIAL: tl.constexpr):
    if PARTIAL:
        tl.store(pointer + at, value.to(pointer.dtype.element_ty), mask=at < end)
    else:
        tl.store(pointer + at, value.to(pointer.dtype.element_ty))


@triton.jit
def _tiles(data, numbers, first, end, first_col, last_row, COLS: tl.constexpr,
           DENSE: tl.constexpr, GAMMA_POS: tl.constexpr, GAMMA_NEG: tl.constexpr,
           MARGIN: tl.constexpr, HIGH: tl.constexpr, CONSTANT: tl.constexpr, LOSS: tl.constexpr,
           STATISTICS: tl.constexpr, KNOWN: tl.constexpr, FAST: tl.constexpr,
           WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTIAL: tl.constexpr):
    """The entries from ``first`` to ``end`` of a program, tile by tile, and their sums.

    Only with PARTIAL the last tile need not be full.
    """
    zero = tl.zeros([BLOCK // WIDTH], tl.float32)
    sums = (zero, zero, zero, zero, zero, zero, zero)
    for begin in range(first, end, BLOCK):
        sums = _tile(sums, data, numbers, begin, end, first_col, last_row, COLS, DENSE, GAMMA_POS,
                     GAMMA_NEG, MARGIN, HIGH, CONSTANT, LOSS, STATISTICS, KNOWN, FAST, WIDTH,
                     BLOCK, PARTIAL)
    loss, p_pos, p_neg, n_pos, n_neg, n_over, n_known = sums
    return (tl.sum(loss, 0), tl.sum(p_pos, 0), tl.sum(p_neg, 0), tl.sum(n_pos, 0),
            tl.sum(n_neg, 0), tl.sum(n_over, 0), tl.sum(n_known, 0))


@triton.jit
def _tile(sums, data, numbers, begin, end, first_col, last_row, COLS: tl.constexpr,
          DENSE: tl.constexpr, GAMMA_POS: tl.constexpr, GAMMA_NEG: tl.constexpr,
          MARGIN: tl.constexpr, HIGH: tl.constexpr, CONSTANT: tl.constexpr, LOSS: tl.constexpr,
          STATISTICS: tl.constexpr, KNOWN: tl.constexpr, FAST: tl.constexpr,
          WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTIAL: tl.constexpr):
    """BLOCK entries that follow each other in memory; WIDTH of them are one load of a thread.

    Positions count from the first entry of the program. Positives of class indices are left out:
    :func:`_positives` makes them, row by row.
    """
    logits, targets, row_weight, col_weight, entry_weight, upstream, values, grad = data
    gamma_pos, gamma_neg, scale_pos, scale_neg, clip, under, ignore = numbers
    loss, p_pos, p_neg, n_pos, n_neg, n_over, n_known = sums
    MIXED: tl.constexpr = DENSE or COLS < TINY_CLASSES
    lane = tl.arange(0, WIDTH)[None, :]
    group = begin + tl.arange(0, BLOCK // WIDTH)[:, None] * WIDTH
    at = group + lane
    # COLS is a constant: no division. Where it is a multiple of WIDTH, a group shares its row.
    flat = first_col + (group if COLS % WIDTH == 0 else at)
    row = (flat.to(tl.uint32) // COLS).to(tl.int32)
    col = flat - row * COLS
    if PARTIAL:
        row = tl.minimum(row, last_row)

    x = _load(logits, at, end, PARTIAL).to(tl.float32)
    if DENSE:
        y = _load(targets, at, end, PARTIAL)
        if y.dtype == tl.int64:
            y = y.to(tl.int32)
        y = y.to(tl.float32)
        known = y != ignore
    else:
        label = tl.load(targets + row)
        known = label != ignore
        positive = label.to(tl.int32) - col == (lane if COLS % WIDTH == 0 else 0)
        y = positive.to(tl.float32)
    weight, counted = 1.0, known
    if row_weight is not None:
        weight = tl.load(row_weight + row).to(tl.float32)
    if col_weight is not None:
        weight *= tl.load(col_weight + (col + lane if COLS % WIDTH == 0 else col)).to(tl.float32)
    if entry_weight is not None:
        weight *= _load(entry_weight, at, end, PARTIAL).to(tl.float32)
    if row_weight is not None or col_weight is not None or entry_weight is not None:
        counted = known & (weight != 0)
    if PARTIAL:
        counted &= at < end

    # What does not count may be anything: a negative at -inf is 0 in all respects.
    if MIXED:
        x = tl.where(counted, x, -float('inf'))
        y = tl.where(counted, y, 0.0)
        p, q, neg_bits, pos_bits = sigmoid(x, FAST)
        value, slope = plain_branch(q, p, pos_bits, neg_bits, gamma_pos, GAMMA_POS, CONSTANT)
        share = y * (weight * scale_pos)
        rest = weight * scale_neg
        # Digits are lost where y is nearly 1 and the product is rounded; FAST: one instruction.
        rest = tl.fma(-y, rest, rest) if FAST else (1.0 - y) * rest
        value = tl.where(y == 0, 0.0, share * value)  # it may be infinite
        slope *= -share
        if MARGIN:
            other, other_slope = margin_branch(p, q, gamma_neg, clip, GAMMA_NEG, HIGH, CONSTANT,
                                                FAST)
            value += rest * other
        else:
            other, other_slope = plain_branch(p, q, neg_bits, pos_bits, gamma_neg, GAMMA_NEG,
                                               CONSTANT)
            value += tl.where(y == 1, 0.0, rest * other)
        slope += rest * other_slope
        if LOSS:
            loss += tl.sum(value, 1)
        if values is not None:
            value *= LN2
    else:
        negative = counted & (positive == 0)
        x = tl.where(negative, x, -float('inf'))
        value, slope, p = negative_branch(x, gamma_neg, clip, GAMMA_NEG, MARGIN, HIGH, CONSTANT,
                                          FAST)
        value *= weight
        slope *= weight * scale_neg
        if LOSS:
            loss += tl.sum(value, 1)
        if values is not None:
            value *= LN2 * scale_neg
    if upstream is not None:
        slope *= _load(upstream, at, end, PARTIAL).to(tl.float32)
    if values is not None:
        _store(values, at, value, end, PARTIAL)
    if grad is not None:
        _store(grad, at, slope, end, PARTIAL)

    if STATISTICS:  # what does not count has p 0 and is not over the margin
        n_over += tl.sum(((y <= 0.5) & (x > under)).to(tl.float32), 1)
        if MIXED:
            hard = (y > 0.5).to(tl.float32)
            n_pos += tl.sum(hard, 1)
            n_neg += tl.sum(tl.where(counted, tl.full(x.shape, 1.0, tl.float32), 0.0), 1)  # of both
            p_pos += tl.sum(hard * p, 1)
            p_neg += tl.sum(p - hard * p, 1)
        else:
            n_neg += tl.sum(negative.to(tl.float32), 1)
            p_neg += tl.sum(p, 1)
    if KNOWN and MIXED:
        n_known += tl.sum((known & (at < end)).to(tl.float32), 1)
    return loss, p_pos, p_neg, n_pos, n_neg, n_over, n_known


@triton.jit
def _positives(data, numbers, count, first_col, last_row, COLS: tl.constexpr,
               GAMMA_POS: tl.constexpr, CONSTANT: tl.constexpr, LOSS: tl.constexpr,
               STATISTICS: tl.constexpr, KNOWN: tl.constexpr, FAST: tl.constexpr):
    """What the rows of a program have at their labels, written over what the tiles left there."""
    logits, targets, row_weight, col_weight, entry_weight, upstream, values, grad = data
    gamma_pos, gamma_neg, scale_pos, scale_neg, clip, under, ignore = numbers
    loss = tl.zeros([ROWS], tl.float32)
    p_pos, n_pos, n_known = loss, loss, loss
    for begin in range(0, last_row + 1, ROWS):
        row = begin + tl.arange(0, ROWS)
        inside = row <= last_row
        label = tl.load(targets + row, mask=inside, other=0)
        known = inside & (label != ignore)
        if KNOWN:
            here = tl.minimum((row + 1) * COLS - first_col, count) \
                - tl.maximum(row * COLS - first_col, 0)
            n_known += tl.where(known, here, 0).to(tl.float32)
        label = label.to(tl.int32)
        at = row * COLS - first_col + label
        hit = known & (label >= 0) & (label < COLS) & (at >= 0) & (at < count)
        weight = hit.to(tl.float32)
        if row_weight is not None:
            weight *= tl.load(row_weight + row, mask=hit, other=0).to(tl.float32)
        if col_weight is not None:
            weight *= tl.load(col_weight + label, mask=hit, other=0).to(tl.float32)
        if entry_weight is not None:
            weight *= tl.load(entry_weight + at, mask=hit, other=0).to(tl.float32)
        hit &= weight != 0
        x = tl.load(logits + at, mask=hit, other=0).to(tl.float32)
        p, q, neg_bits, pos_bits = sigmoid(x, FAST)
        value, slope = plain_branch(q, p, pos_bits, neg_bits, gamma_pos, GAMMA_POS, CONSTANT)
        value *= weight
        slope *= weight * -scale_pos
        if upstream is not None:
            slope *= tl.load(upstream + at, mask=hit, other=0).to(tl.float32)
        if values is not None:
            tl.store(values + at, value * (LN2 * scale_pos), mask=hit)
        if grad is not None:
            tl.store(grad + at, slope.to(grad.dtype.element_ty), mask=hit)
        if LOSS:
            loss += tl.where(hit, value, 0.0)
        if STATISTICS:
            n_pos += hit.to(tl.float32)
            p_pos += tl.where(hit, p, 0.0)
    return loss, p_pos, n_pos, n_known


@triton.jit
def _finish(sums, loss, done, entries, MEAN: tl.constexpr):
    """The sums of all programs, always added in the same order, by the program that ends last."""
    programs = tl.num_programs(0)
    tl.debug_barrier()  # the sums of this program are written
    if tl.atomic_add(done, 1, sem='acq_rel') == programs - 1:
        at = tl.arange(0, CHUNK)[:, None]
        column = tl.arange(0, SUMS)
        total = tl.zeros([CHUNK, SUMS], tl.float64)
        for begin in range(0, programs, CHUNK):
            total += tl.load(sums + (1 + begin + at) * SUMS + column[None, :],
                             mask=begin + at < programs, other=0.0, cache_modifier='.cg')
        total = tl.sum(total, 0)
        result = tl.sum(tl.where(column == 0, total, 0.0), 0)
        if MEAN:  # the scale divides by all entries; the gradient does not know better yet
            known = tl.sum(tl.where(column == 6, total, 0.0), 0)
            correction = entries / tl.maximum(known, 1.0)
            total = tl.where(column == 7, correction, total)
            result *= correction
        tl.store(sums + column, total)
        tl.store(loss, result.to(tl.float32))
        tl.store(done, 0)  # for the next launch


@triton.jit(do_not_specialize=['entries', 'ignore'])
def one_pass_kernel(logits, targets, row_weight, col_weight, entry_weight, upstream, factor,
                    values, grad, sums, loss, done, entries, span, gamma_pos, gamma_neg,
                    scale_pos, scale_neg, clip, under, ignore, COLS: tl.constexpr,
                    DENSE: tl.constexpr, GAMMA_POS: tl.constexpr,
                    GAMMA_NEG: tl.constexpr, MARGIN: tl.constexpr, HIGH: tl.constexpr,
                    CONSTANT: tl.constexpr, STATISTICS: tl.constexpr, MEAN: tl.constexpr,
                    FAST: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Value and gradient of ``span`` entries a program; what is None costs nothing.

    Args:
        sums: ``(1 + programs, SUMS)`` float64, or None: the totals, and those of programs.
        loss: 0-dim float32 beside ``sums``.
        done: 0-dim int32, 0 before and after.
        WIDTH: entries of the logits in 16 bytes.
        BLOCK: entries of a tile.
    """
    LOSS: tl.constexpr = sums is not None
    program = tl.program_id(0)
    start = program.to(entries.dtype) * span
    count = tl.minimum(entries - start, span).to(tl.int32)
    first_row = start // COLS
    first_col = (start - first_row * COLS).to(tl.int32)
    last_row = (first_col + count - 1) // COLS
    logits += start
    targets += start if DENSE else first_row
    if row_weight is not None:
        row_weight += first_row
    if entry_weight is not None:
        entry_weight += start
    if upstream is not None:
        upstream += start
    if values is not None:
        values += start
    if grad is not None:
        grad += start
    if factor is not None:
        scale_pos *= tl.load(factor).to(tl.float32)
        scale_neg *= tl.load(factor).to(tl.float32)
    data = (logits, targets, row_weight, col_weight, entry_weight, upstream, values, grad)
    numbers = (gamma_pos, gamma_neg, scale_pos, scale_neg, clip, under, ignore)

    whole = count // BLOCK * BLOCK
    total, p_pos, p_neg, n_pos, n_neg, n_over, known = _tiles(
        data, numbers, 0, whole, first_col, last_row, COLS, DENSE, GAMMA_POS, GAMMA_NEG, MARGIN,
        HIGH, CONSTANT, LOSS, STATISTICS, MEAN, FAST, WIDTH, BLOCK, False)
    rest = _tiles(
        data, numbers, whole, count, first_col, last_row, COLS, DENSE, GAMMA_POS, GAMMA_NEG,
        MARGIN, HIGH, CONSTANT, LOSS, STATISTICS, MEAN, FAST, WIDTH, TAIL, True)
    total = total.to(tl.float64) + rest[0]
    p_pos, p_neg, n_pos = p_pos + rest[1], p_neg + rest[2], n_pos + rest[3]
    n_neg, n_over, known = n_neg + rest[4], n_over + rest[5], known + rest[6]
    if DENSE or COLS < TINY_CLASSES:
        n_neg -= n_pos
    else:
        tl.debug_barrier()  # the tiles of this program are written
        cost, p_pos, n_pos, known = _positives(
            data, numbers, count, first_col, last_row, COLS, GAMMA_POS, CONSTANT, LOSS,
            STATISTICS, MEAN, FAST)
        total = total * scale_neg + tl.sum(cost, 0).to(tl.float64) * scale_pos
        p_pos, n_pos, known = tl.sum(p_pos, 0), tl.sum(n_pos, 0), tl.sum(known, 0)
    if LOSS:
        mine = sums + (1 + program) * SUMS
        tl.store(mine, total * LN2)
        if STATISTICS:
            tl.store(mine + 1, p_pos.to(tl.float64))
            tl.store(mine + 2, p_neg.to(tl.float64))
            tl.store(mine + 3, n_pos.to(tl.float64))
            tl.store(mine + 4, n_neg.to(tl.float64))
            tl.store(mine + 5, (n_neg - n_over).to(tl.float64))
        if MEAN:
            tl.store(mine + 6, known.to(tl.float64))
        _finish(sums, loss, done, entries, MEAN)


@triton.jit(do_not_specialize=['entries'])
def scale_kernel(grad, factor, correction, entries, BLOCK: tl.constexpr):
    """Multiply ``grad`` in place by numbers that only the GPU knows; 1 moves nothing."""
    value = tl.load(factor).to(tl.float32)
    if correction is not None:  # of a mean
        value *= tl.load(correction).to(tl.float32)
    if value != 1.0:
        step = tl.num_programs(0).to(entries.dtype) * BLOCK
        for start in range(tl.program_id(0).to(entries.dtype) * BLOCK, entries, step):
            at = tl.arange(0, BLOCK)
            inside = at < entries - start
            scaled = tl.load(grad + start + at, mask=inside, other=0.0).to(tl.float32) * value
            tl.store(grad + start + at, scaled.to(grad.dtype.element_ty), mask=inside)
