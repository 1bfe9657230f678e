"""Compiled kernels that read partial sums; NumPy twins are in `cosim.network.reference`.

A patch is one position of one image; its inputs lie in `lines`, one 64-bit word for up to 64 rows of a sub-array,
`words` of them to a sub-array. With `on_off` an input of 0 turns its row off, so that the number of rows that are on,
and with it the table, depends on the patch. Each kernel is single-threaded and releases the GIL; blocks of images run
on threads. The inner loops go over columns, so that the compiler turns them into vector instructions; looking up is
a loop of its own because it does not vectorize. numba widens arithmetic on 32-bit words to 64 bits, which halves
what a vector instruction does; so the hash of `cosim.network.counter` is in the compiler's own operations. Every
kernel counts first: terms that a die adds to a column's count belong there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from jaxtyping import Int32, Int64, UInt32, UInt64
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cosim.compiling import compiled, inlined, popcount
from cosim.network.counter import COLUMN, FIRST_32, SECOND_32

_HALF = np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_NONE = np.int32(0)
_ALL = np.uint64(2**64 - 1)
_OFF = -1

_WORD = ir.IntType(32)

STAIRS = 7
"""Steps that one pass of `nominal_stairs` takes: those of 3 bits."""


def _constant(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _build_hash32(typing_context: Any, low: Any, high: Any, column: Any) -> Any:
    """`cosim.network.counter.column_words` in 32-bit operations, which numba would widen to 64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high, column = arguments
        word = builder.add(low, builder.mul(builder.trunc(column, _WORD), _constant(COLUMN)))
        word = builder.xor(word, builder.lshr(word, _constant(16)))
        word = builder.mul(word, _constant(FIRST_32))
        word = builder.xor(builder.xor(word, builder.lshr(word, _constant(15))), high)
        word = builder.mul(word, _constant(SECOND_32))
        return builder.xor(word, builder.lshr(word, _constant(16)))

    return types.uint32(types.uint32, types.uint32, types.int64), generate


def _build_slot(typing_context: Any, count: Any, bits: Any, word: Any) -> Any:
    """count * 2**bits plus the top bits of a word: the place of an alias entry."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, bits, word = arguments
        return builder.or_(builder.shl(count, bits), builder.lshr(word, builder.sub(_constant(32), bits)))

    return types.uint32(types.uint32, types.uint32, types.uint32), generate


def _build_shifted(typing_context: Any, word: Any, bits: Any) -> Any:
    """A 32-bit word without its top bits, moved up."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.shl(*arguments)

    return types.uint32(types.uint32, types.uint32), generate


def _build_chosen(typing_context: Any, total: Any, entry: Any, draw: Any) -> Any:
    """total plus the centroid that an alias entry gives for a draw, in 32 bits; see `cosim.network.alias`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, entry, draw = arguments
        threshold = builder.trunc(entry, _WORD)
        halves = builder.trunc(builder.lshr(entry, ir.Constant(entry.type, 32)), _WORD)
        own = builder.icmp_unsigned("<", draw, threshold)
        value = builder.select(own, builder.shl(halves, _constant(16)), halves)
        return builder.add(total, builder.ashr(value, _constant(16)))

    return types.int32(types.int32, types.uint64, types.uint32), generate


_hash32 = cast(Callable[..., Any], intrinsic(_build_hash32))
_slot = cast(Callable[..., Any], intrinsic(_build_slot))
_shifted = cast(Callable[..., Any], intrinsic(_build_shifted))
_chosen = cast(Callable[..., Any], intrinsic(_build_chosen))


@compiled
def ideal_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    on_off: bool,
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` with the exact sums of products; four words a pass, so that counts stay in registers."""
    words, columns = weights.shape
    positions = kind.shape[0]
    counts, inputs, on = np.empty(columns, np.uint64), np.empty(words, np.uint64), np.empty(words, np.uint64)
    for patch in range(lines.shape[0]):
        _rows(lines, active, patch, kind[patch % positions], on_off, inputs, on)
        counts[:] = 0
        rows = _ones(on, 0, words)
        line = 0
        while line + 3 < words:
            x0, x1, x2, x3 = inputs[line], inputs[line + 1], inputs[line + 2], inputs[line + 3]
            a0, a1, a2, a3 = on[line], on[line + 1], on[line + 2], on[line + 3]
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
            x0, a0 = inputs[line], on[line]
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
    on_off: bool,
    words: int,
    start: Int64[np.ndarray, " n_active"],
    centroid: Int32[np.ndarray, " entry"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of the nominal codes, by looking each up."""
    columns = weights.shape[1]
    positions = kind.shape[0]
    total = lines.shape[1]
    counts, inputs, on = np.empty(columns, np.uint64), np.empty(total, np.uint64), np.empty(total, np.uint64)
    for patch in range(lines.shape[0]):
        _rows(lines, active, patch, kind[patch % positions], on_off, inputs, on)
        sums[patch] = 0
        for line in range(0, total, words):
            table = start[_ones(on, line, words)]
            if table == _OFF:
                continue
            first = np.uint64(table)
            _count_rows(inputs, on, weights, line, words, counts)
            for column in range(columns):
                sums[patch, column] += centroid[first + counts[column]]


@compiled
def nominal_stairs(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    on_off: bool,
    words: int,
    table: Int64[np.ndarray, " n_active"],
    bottom: Int32[np.ndarray, " table"],
    step: Int32[np.ndarray, "table stair"],
    rise: Int32[np.ndarray, "table stair"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """`nominal_sums` where few steps lead from count 0 to the last: compared instead of looked up.

    `bottom` is the centroid at count 0; from count `step` on the centroid is higher by `rise`. The
    number of stairs is a multiple of `STAIRS`.
    """
    columns = weights.shape[1]
    positions = kind.shape[0]
    all_words = lines.shape[1]
    counts, total = np.empty((1, columns), np.uint32), np.empty(columns, np.int32)
    inputs, on = np.empty(all_words, np.uint64), np.empty(all_words, np.uint64)
    for patch in range(lines.shape[0]):
        _rows(lines, active, patch, kind[patch % positions], on_off, inputs, on)
        total[:] = 0
        base = np.int32(0)
        for line in range(0, all_words, words):
            t = table[_ones(on, line, words)]
            if t == _OFF:
                continue
            base = np.int32(base + bottom[t])
            _count_entries(inputs, on, weights, line, words, np.uint64(0), counts, 0)
            for s in range(0, step.shape[1], STAIRS):
                s0, s1, s2, s3 = step[t, s], step[t, s + 1], step[t, s + 2], step[t, s + 3]
                s4, s5, s6 = step[t, s + 4], step[t, s + 5], step[t, s + 6]
                r0, r1, r2, r3 = rise[t, s], rise[t, s + 1], rise[t, s + 2], rise[t, s + 3]
                r4, r5, r6 = rise[t, s + 4], rise[t, s + 5], rise[t, s + 6]
                for column in range(columns):
                    count = np.int32(counts[0, column])
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
            sums[patch, column] = total[column] + base


@compiled
def iid_sums(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    on_off: bool,
    words: int,
    start: Int64[np.ndarray, " n_active"],
    alias: UInt64[np.ndarray, "entry slot"],
    keys: UInt64[np.ndarray, " image"],
    sums: Int32[np.ndarray, "patch column"],
    places: UInt32[np.ndarray, "slot column"],
    draws: UInt32[np.ndarray, "slot column"],
    found: UInt64[np.ndarray, "slot column"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of codes drawn afresh for every partial sum.

    `places`, `draws` and `found` are working memory for some sub-arrays at once.
    """
    columns = weights.shape[1]
    positions, arrays, most = kind.shape[0], lines.shape[1] // words, places.shape[0]
    entries, flat_places, flat_found = alias.ravel(), places.ravel(), found.ravel()
    total = np.empty(columns, np.int32)
    inputs, on = np.empty(lines.shape[1], np.uint64), np.empty(lines.shape[1], np.uint64)
    bits = np.uint32(popcount(np.uint64(alias.shape[1] - 1)))
    for patch in range(lines.shape[0]):
        position = patch % positions
        _rows(lines, active, patch, kind[position], on_off, inputs, on)
        total[:] = 0
        array = 0
        while array < arrays:
            used = 0
            while array < arrays and used < most:
                table = start[_ones(on, array * words, words)]
                if table != _OFF:
                    key = _mix(keys[patch // positions] + np.uint64(position * arrays + array + 1) * _GOLDEN)
                    entry = np.uint64(table)  # A signed number and a word would add up to a float.
                    _count_entries(inputs, on, weights, array * words, words, entry, places, used)
                    _draw(np.uint32(key), np.uint32(key >> _HALF), bits, places, draws, used)
                    used += 1
                array += 1
            for place in range(used * columns):
                flat_found[place] = entries[flat_places[place]]
            for i in range(used):
                for column in range(columns):
                    total[column] = _chosen(total[column], found[i, column], draws[i, column])
        for column in range(columns):
            sums[patch, column] = total[column]


@compiled
def count_histogram(
    lines: UInt64[np.ndarray, "patch line"],
    kind: Int64[np.ndarray, " position"],
    active: UInt64[np.ndarray, "kind line"],
    weights: UInt64[np.ndarray, "line column"],
    on_off: bool,
    words: int,
    start: Int64[np.ndarray, " n_active"],
    histogram: Int64[np.ndarray, " entry"],
) -> None:
    """Add to `histogram` how often each count occurs, at the start of its array plus the count."""
    columns = weights.shape[1]
    positions = kind.shape[0]
    total = lines.shape[1]
    counts, inputs, on = np.empty(columns, np.uint64), np.empty(total, np.uint64), np.empty(total, np.uint64)
    for patch in range(lines.shape[0]):
        _rows(lines, active, patch, kind[patch % positions], on_off, inputs, on)
        for line in range(0, total, words):
            table = start[_ones(on, line, words)]
            if table == _OFF:
                continue
            first = np.uint64(table)
            _count_rows(inputs, on, weights, line, words, counts)
            for column in range(columns):
                histogram[first + counts[column]] += 1


@inlined
def _rows(
    lines: UInt64[np.ndarray, "patch line"],
    active: UInt64[np.ndarray, "kind line"],
    patch: int,
    kind: Any,
    on_off: bool,
    inputs: UInt64[np.ndarray, " line"],
    on: UInt64[np.ndarray, " line"],
) -> None:
    """Fill `inputs` with the bits that meet the weights and `on` with the rows that are on.

    Where inputs turn rows on and off, they meet the weights as +1.
    """
    if on_off:
        for line in range(lines.shape[1]):
            inputs[line], on[line] = _ALL, lines[patch, line] & active[kind, line]
    else:
        for line in range(lines.shape[1]):
            inputs[line], on[line] = lines[patch, line], active[kind, line]


@inlined
def _ones(on: UInt64[np.ndarray, " line"], first: int, words: int) -> Any:
    """The number of rows of one sub-array that are on."""
    rows = popcount(on[first])
    for line in range(first + 1, first + words):
        rows += popcount(on[line])
    return rows


@inlined
def _count_rows(
    inputs: UInt64[np.ndarray, " line"],
    on: UInt64[np.ndarray, " line"],
    weights: UInt64[np.ndarray, "line column"],
    first: int,
    words: int,
    counts: UInt64[np.ndarray, " column"],
) -> None:
    """Fill `counts` with the rows of one sub-array that are on and whose product is -1."""
    x, a = inputs[first], on[first]
    for column in range(weights.shape[1]):
        counts[column] = popcount((x ^ weights[first, column]) & a)
    for line in range(first + 1, first + words):
        x, a = inputs[line], on[line]
        for column in range(weights.shape[1]):
            counts[column] += popcount((x ^ weights[line, column]) & a)


@inlined
def _mix(word: Any) -> Any:
    """The finalizer of splitmix64, as in `cosim.network.counter.mix`."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


@inlined
def _count_entries(
    inputs: UInt64[np.ndarray, " line"],
    on: UInt64[np.ndarray, " line"],
    weights: UInt64[np.ndarray, "line column"],
    first: int,
    words: int,
    start: Any,
    places: UInt32[np.ndarray, "slot column"],
    used: int,
) -> None:
    """As `_count_rows`, in 32 bits and counted from `start`."""
    x, a = inputs[first], on[first]
    for column in range(weights.shape[1]):
        places[used, column] = np.uint32(start + popcount((x ^ weights[first, column]) & a))
    for line in range(first + 1, first + words):
        x, a = inputs[line], on[line]
        for column in range(weights.shape[1]):
            places[used, column] += np.uint32(popcount((x ^ weights[line, column]) & a))


@inlined
def _draw(
    low: Any,
    high: Any,
    bits: Any,
    places: UInt32[np.ndarray, "slot column"],
    draws: UInt32[np.ndarray, "slot column"],
    used: int,
) -> None:
    """Turn entries into places of alias slots by a hash's top bits; `draws` are its other bits, moved up."""
    for column in range(places.shape[1]):
        word = _hash32(low, high, column)
        places[used, column] = _slot(places[used, column], bits, word)
        draws[used, column] = _shifted(word, bits)
