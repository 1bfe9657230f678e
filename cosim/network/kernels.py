"""Compiled kernels for one block of images; NumPy twins are in `cosim.network.reference`.

Each kernel is single-threaded and releases the GIL; blocks of images run on threads. The inner loops go over
columns, so that the compiler turns them into vector instructions; counting, hashing and looking up are separate
loops because a loop with a look-up does not vectorize. Every kernel fills `counts` first: terms that a die adds
to a column's count belong there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt64
from numba import types
from numba.extending import intrinsic

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function compiled at its first call, cached on disk where any folder can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(Callable[P, R], numba.njit(cache=True, **options)(function))
    except RuntimeError:  # No folder for the cache: a read-only system without a home.
        return cast(Callable[P, R], numba.njit(**options)(function))


def _popcount(typing_context: Any, word: Any) -> Any:
    """The number of set bits of a 64-bit word, as the compiler's own operation."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


popcount = cast(Callable[[Any], Any], intrinsic(_popcount))

_BITS = np.uint64(64)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@compiled
def count_rows(
    inputs: Any, active: Any, weights: UInt64[np.ndarray, " column"], counts: UInt64[np.ndarray, " column"]
) -> None:
    """Fill `counts` with the active rows of one sub-array whose product is -1."""
    for column in range(weights.shape[0]):
        counts[column] = popcount((inputs ^ weights[column]) & active)


@compiled
def ideal_sums(
    inputs: UInt64[np.ndarray, "image array"],
    active: UInt64[np.ndarray, " array"],
    weights: UInt64[np.ndarray, "array column"],
    sums: Int32[np.ndarray, "image column"],
) -> None:
    """Fill `sums` with the exact sums of products."""
    arrays, columns = weights.shape
    counts = np.empty(columns, np.uint64)
    rows = np.int32(0)
    for array in range(arrays):
        rows += np.int32(popcount(active[array]))
    for image in range(inputs.shape[0]):
        sums[image] = rows
        for array in range(arrays):
            count_rows(inputs[image, array], active[array], weights[array], counts)
            for column in range(columns):
                sums[image, column] -= np.int32(2) * np.int32(counts[column])


@compiled
def nominal_sums(
    inputs: UInt64[np.ndarray, "image array"],
    active: UInt64[np.ndarray, " array"],
    weights: UInt64[np.ndarray, "array column"],
    start: UInt64[np.ndarray, " array"],
    centroid: Int32[np.ndarray, " entry"],
    sums: Int32[np.ndarray, "image column"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of the nominal codes."""
    arrays, columns = weights.shape
    counts = np.empty(columns, np.uint64)
    for image in range(inputs.shape[0]):
        sums[image] = 0
        for array in range(arrays):
            count_rows(inputs[image, array], active[array], weights[array], counts)
            for column in range(columns):
                sums[image, column] += centroid[start[array] + counts[column]]


@compiled
def iid_sums(
    inputs: UInt64[np.ndarray, "image array"],
    active: UInt64[np.ndarray, " array"],
    weights: UInt64[np.ndarray, "array column"],
    start: UInt64[np.ndarray, " array"],
    alias: UInt64[np.ndarray, "entry slot"],
    keys: UInt64[np.ndarray, " image"],
    sums: Int32[np.ndarray, "image column"],
) -> None:
    """Fill `sums` with the fixed-point sums of the centroids of codes drawn afresh for every partial sum."""
    arrays, columns = weights.shape
    entries = alias.ravel()
    bits = np.uint64(popcount(np.uint64(alias.shape[1] - 1)))
    counts = np.empty(columns, np.uint64)
    draws = np.empty(columns, np.uint64)
    for image in range(inputs.shape[0]):
        sums[image] = 0
        for array in range(arrays):
            count_rows(inputs[image, array], active[array], weights[array], counts)
            state = keys[image] + np.uint64(array * columns + 1) * _GOLDEN
            _draw(state, start[array], bits, counts, draws)
            for column in range(columns):
                counts[column] = entries[counts[column]]
            for column in range(columns):
                # Own code below the threshold, alias from there on: 16 more bits of shift.
                beyond = np.uint64((draws[column] >> _HALF) >= (counts[column] & _LOW))
                value = counts[column] >> (_HALF + (beyond << np.uint64(4)))
                sums[image, column] += np.int32(np.int16(np.uint16(value)))


@compiled
def _draw(
    state: Any,
    start: Any,
    bits: Any,
    counts: UInt64[np.ndarray, " column"],
    draws: UInt64[np.ndarray, " column"],
) -> None:
    """Turn `counts` into positions of alias entries by a hash's top bits; `draws` starts with its next bits."""
    for column in range(counts.shape[0]):
        word = state + np.uint64(column) * _GOLDEN
        word = (word ^ (word >> np.uint64(30))) * _FIRST
        word = (word ^ (word >> np.uint64(27))) * _SECOND
        word = word ^ (word >> np.uint64(31))
        counts[column] = ((start + counts[column]) << bits) | (word >> (_BITS - bits))
        draws[column] = word << bits


@compiled
def pixel_planes(
    images: UInt8[np.ndarray, "image pixel"],
    planes: UInt64[np.ndarray, "image word bit"],
    totals: Int32[np.ndarray, " image"],
) -> None:
    """Fill `planes` with the pixels' bits, one word a bit and 64 pixels, and `totals` with their sums."""
    pixels = images.shape[1]
    for image in range(images.shape[0]):
        total = np.int32(0)
        for pixel in range(pixels):
            total += np.int32(images[image, pixel])
        totals[image] = total
        for word in range(planes.shape[1]):
            for bit in range(8):
                plane = np.uint64(0)
                for position in range(min(64, pixels - 64 * word)):
                    value = np.uint64((images[image, 64 * word + position] >> bit) & 1)
                    plane |= value << np.uint64(position)
                planes[image, word, bit] = plane


@compiled
def pixel_sums(
    planes: UInt64[np.ndarray, "image word bit"],
    totals: Int32[np.ndarray, " image"],
    weights: UInt64[np.ndarray, "word column"],
    sums: Int32[np.ndarray, "image column"],
) -> None:
    """Fill `sums` with the exact sums of pixel times weight: 2 * (sum over weights +1) - (sum over all)."""
    words, columns = weights.shape
    plus = np.empty(columns, np.uint64)
    for image in range(planes.shape[0]):
        plus[:] = 0
        for word in range(words):
            p0, p1, p2, p3 = (
                planes[image, word, 0],
                planes[image, word, 1],
                planes[image, word, 2],
                planes[image, word, 3],
            )
            p4, p5, p6, p7 = (
                planes[image, word, 4],
                planes[image, word, 5],
                planes[image, word, 6],
                planes[image, word, 7],
            )
            if p0 | p1 | p2 | p3 | p4 | p5 | p6 | p7 == 0:
                continue
            for column in range(columns):
                on = weights[word, column]
                value = popcount(p7 & on)
                value = value + value + popcount(p6 & on)
                value = value + value + popcount(p5 & on)
                value = value + value + popcount(p4 & on)
                value = value + value + popcount(p3 & on)
                value = value + value + popcount(p2 & on)
                value = value + value + popcount(p1 & on)
                value = value + value + popcount(p0 & on)
                plus[column] += value
        for column in range(columns):
            sums[image, column] = np.int32(2) * np.int32(plus[column]) - totals[image]


@compiled
def binarize(
    sums: Int32[np.ndarray, "image column"],
    value: Int64[np.ndarray, " column"],
    direction: Int64[np.ndarray, " column"],
    rows: int,
    outputs: UInt64[np.ndarray, "image array"],
) -> None:
    """Fill `outputs` with the bits direction * sum >= value, `rows` a word; value carries the direction."""
    columns = sums.shape[1]
    for image in range(sums.shape[0]):
        for array in range(outputs.shape[1]):
            word = np.uint64(0)
            for row in range(min(rows, columns - rows * array)):
                column = rows * array + row
                on = direction[column] * np.int64(sums[image, column]) >= value[column]
                word |= np.uint64(on) << np.uint64(row)
            outputs[image, array] = word


@compiled
def count_histogram(
    inputs: UInt64[np.ndarray, "image array"],
    active: UInt64[np.ndarray, " array"],
    weights: UInt64[np.ndarray, "array column"],
    start: UInt64[np.ndarray, " array"],
    histogram: Int64[np.ndarray, " entry"],
) -> None:
    """Add to `histogram` how often each count occurs, at the start of its array plus the count."""
    arrays, columns = weights.shape
    counts = np.empty(columns, np.uint64)
    for image in range(inputs.shape[0]):
        for array in range(arrays):
            count_rows(inputs[image, array], active[array], weights[array], counts)
            for column in range(columns):
                histogram[start[array] + counts[column]] += 1
