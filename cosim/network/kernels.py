"""Compiled kernels that read partial sums; NumPy twins are in `cosim.network.reference`.

A patch is one position of one image; its inputs lie in `lines`, one 64-bit word for up to 64 rows of a sub-array,
`words` of them to a sub-array. Each kernel is single-threaded and releases the GIL; blocks of images run on
threads. The inner loops go over columns, so that the compiler turns them into vector instructions; looking up is
a loop of its own because it does not vectorize. Every kernel counts first: terms that a die adds to a column's
count belong there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from cosim.network.compiling import compiled, popcount

_BITS = np.uint64(64)
_HALF = np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_NONE = np.int32(0)
_OFF = -1

STAIRS = 7
"""Steps that one pass of `nominal_stairs` takes: those of 3 bits."""


@compiled
def ideal_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` with the exact sums of products; four words a pass, so that counts stay in registers."""
    words, columns = weights.shape
    positions = kind.shape[0]
    counts = np.empty(columns, np.uint64)
    for patch in range(lines.shape[0]):
        k = kind[patch % positions]
        counts[:] = 0
        rows = np.uint64(0)
        for line in range(words):
            rows += popcount(active[k, line])
        line = 0
        while line + 3 < words:
            x0, x1, x2, x3 = lines[patch, line], lines[patch, line + 1], lines[patch, line + 2], lines[patch, line + 3]
            a0, a1, a2, a3 = active[k, line], active[k, line + 1], active[k, line + 2], active[k, line + 3]
            if a0 | a1 | a2 | a3 != 0:
                for column in range(columns):
                    counts[column] += (
                        popcount((x0 ^ weights[line, column]) & a0)
                        + popcount((x1 ^ weights[line + 1, column]) & a1)
                        + popcount((x2 ^ weights[line + 2, column]) & a2)
                        + popcount((x3 ^ weights[line + 3, column]) & a3)
                    )
            line += 4
        while line < words:
            x0, a0 = lines[patch, line], active[k, line]
            for column in range(columns):
                counts[column] += popcount((x0 ^ weights[line, column]) & a0)
            line += 1
        for column in range(columns):
            sums[patch, column] = np.int32(rows) - np.int32(2) * np.int32(counts[column])


@compiled
def nominal_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    words: int,
    start: Int64[np.ndarray, "kind array"],
    centroid: Int32[np.ndarray, " entry"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of the nominal codes, by looking each up."""
    columns = weights.shape[1]
    positions = kind.shape[0]
    counts = np.empty(columns, np.uint64)
    for patch in range(lines.shape[0]):
        k = kind[patch % positions]
        sums[patch] = 0
        for array in range(start.shape[1]):
            if start[k, array] == _OFF:
                continue
            first = np.uint64(start[k, array])
            _count_rows(lines, active, weights, patch, k, array * words, (array + 1) * words, counts)
            for column in range(columns):
                sums[patch, column] += centroid[first + counts[column]]


@compiled
def nominal_stairs(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    words: int,
    table: Int64[np.ndarray, "kind array"],
    bottom: Int32[np.ndarray, " kind"],
    step: Int32[np.ndarray, "table stair"],
    rise: Int32[np.ndarray, "table stair"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """`nominal_sums` where few steps lead from count 0 to the last: compared instead of looked up.

    `bottom` is the sum at count 0 of all sub-arrays; from count `step` on the centroid is higher by `rise`. The
    number of stairs is a multiple of `STAIRS`.
    """
    columns = weights.shape[1]
    positions = kind.shape[0]
    counts = np.empty(columns, np.uint64)
    total = np.empty(columns, np.int32)
    for patch in range(lines.shape[0]):
        k = kind[patch % positions]
        total[:] = bottom[k]
        for array in range(table.shape[1]):
            t = table[k, array]
            if t == _OFF:
                continue
            _count_rows(lines, active, weights, patch, k, array * words, (array + 1) * words, counts)
            for s in range(0, step.shape[1], STAIRS):
                s0, s1, s2, s3 = step[t, s], step[t, s + 1], step[t, s + 2], step[t, s + 3]
                s4, s5, s6 = step[t, s + 4], step[t, s + 5], step[t, s + 6]
                r0, r1, r2, r3 = rise[t, s], rise[t, s + 1], rise[t, s + 2], rise[t, s + 3]
                r4, r5, r6 = rise[t, s + 4], rise[t, s + 5], rise[t, s + 6]
                for column in range(columns):
                    count = np.int32(counts[column])
                    total[column] += (
                        (r0 if count >= s0 else _NONE)
                        + (r1 if count >= s1 else _NONE)
                        + (r2 if count >= s2 else _NONE)
                        + (r3 if count >= s3 else _NONE)
                        + (r4 if count >= s4 else _NONE)
                        + (r5 if count >= s5 else _NONE)
                        + (r6 if count >= s6 else _NONE)
                    )
        for column in range(columns):
            sums[patch, column] = total[column]


@compiled
def iid_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    words: int,
    start: Int64[np.ndarray, "kind array"],
    alias: Int64[np.ndarray, "entry slot"],
    keys: UInt64[np.ndarray, " image"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of codes drawn afresh for every partial sum."""
    columns = weights.shape[1]
    positions, arrays = kind.shape[0], start.shape[1]
    entries = alias.ravel()
    bits = np.uint64(popcount(np.uint64(alias.shape[1] - 1)))
    counts = np.empty(columns, np.uint64)
    draws = np.empty(columns, np.uint32)
    total = np.empty(columns, np.int64)
    for patch in range(lines.shape[0]):
        position = patch % positions
        k = kind[position]
        total[:] = 0
        for array in range(arrays):
            if start[k, array] == _OFF:
                continue
            _count_rows(lines, active, weights, patch, k, array * words, (array + 1) * words, counts)
            counter = (position * arrays + array) * columns + 1
            state = keys[patch // positions] + np.uint64(counter) * _GOLDEN
            _draw(state, np.uint64(start[k, array]), bits, counts, draws)
            for column in range(columns):
                counts[column] = np.uint64(entries[counts[column]])
            for column in range(columns):
                # Own code below the threshold, alias from there on; shifts that extend the sign.
                entry = np.int64(counts[column])
                own = draws[column] < np.uint32(entry)
                total[column] += ((entry << 16) >> 48) if own else (entry >> 48)
        for column in range(columns):
            sums[patch, column] = np.int32(total[column])


@compiled
def count_histogram(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    words: int,
    start: Int64[np.ndarray, "kind array"],
    histogram: Int64[np.ndarray, " entry"],
) -> None:
    """Add to `histogram` how often each count occurs, at the start of its array plus the count."""
    columns = weights.shape[1]
    positions = kind.shape[0]
    counts = np.empty(columns, np.uint64)
    for patch in range(lines.shape[0]):
        k = kind[patch % positions]
        for array in range(start.shape[1]):
            if start[k, array] == _OFF:
                continue
            first = np.uint64(start[k, array])
            _count_rows(lines, active, weights, patch, k, array * words, (array + 1) * words, counts)
            for column in range(columns):
                histogram[first + counts[column]] += 1


@compiled
def _count_rows(
    lines: UInt64[np.ndarray, "patch line"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    patch: int,
    kind: Any,
    first: int,
    end: int,
    counts: UInt64[np.ndarray, " column"],
) -> None:
    """Fill `counts` with the active rows of one sub-array, its words first to end, whose product is -1."""
    inputs, on = lines[patch, first], active[kind, first]
    for column in range(weights.shape[1]):
        counts[column] = popcount((inputs ^ weights[first, column]) & on)
    for line in range(first + 1, end):
        inputs, on = lines[patch, line], active[kind, line]
        for column in range(weights.shape[1]):
            counts[column] += popcount((inputs ^ weights[line, column]) & on)


@compiled
def _draw(
    state: Any,
    start: Any,
    bits: Any,
    counts: UInt64[np.ndarray, " column"],
    draws: Any,
) -> None:
    """Turn `counts` into positions of alias entries by a hash's top bits; `draws` are its next 32 bits."""
    for column in range(counts.shape[0]):
        word = state + np.uint64(column) * _GOLDEN
        word = (word ^ (word >> np.uint64(30))) * _FIRST
        word = (word ^ (word >> np.uint64(27))) * _SECOND
        word = word ^ (word >> np.uint64(31))
        counts[column] = ((start + counts[column]) << bits) | (word >> (_BITS - bits))
        draws[column] = np.uint32((word << bits) >> _HALF)
