"""Sampling by comparing with cumulative probabilities, for few codes: as wide as a vector, without looking up.

A draw is 16 bits, kept to at most 65534, and the code is the number of thresholds that it reaches. A threshold of
65535 is never reached and one of 0 always, so that certain codes are certain and impossible ones impossible; a
cumulative probability is off by at most 2**-16, and the probability of one code by at most 2**-15.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int16, Int32, UInt16, UInt32, UInt64

from cosim.network.packing import aligned

THRESHOLDS = 7
"""Of each count: those of 3 bits."""

COUNTS_MAX = 65
LANES = 32
DRAW_MAX = 65534
NEVER = 65535


def compares(rows: int, codes: int) -> bool:
    """Whether codes of sub-arrays of so many rows are drawn in this way, and not from alias tables."""
    return rows < COUNTS_MAX and codes <= THRESHOLDS + 1


def cumulative_thresholds(probability: Float64[np.ndarray, "count code"]) -> UInt16[np.ndarray, "count threshold"]:
    """What a draw must reach for the codes from 1 on; codes that a table does not have are never reached.

    Args:
        probability: P(code | count), each row summing to 1 within rounding; at most THRESHOLDS + 1 codes.

    >>> cumulative_thresholds(np.array([[0.25, 0.75, 0.0]]))[0, :3].tolist()
    [16384, 65535, 65535]
    """
    total = probability.cumsum(axis=1)
    share = total[:, :-1] / total[:, -1:]
    values = np.rint(share * 2**16)
    # Of a draw of at most 65534 the last value weighs two: below one unit "never" is the nearer.
    values = np.where(share > 1 - 2.0**-16, NEVER, np.minimum(values, DRAW_MAX))
    thresholds = np.full((len(probability), THRESHOLDS), NEVER, np.uint16)
    thresholds[:, : values.shape[1]] = values
    return thresholds


def centroid_rises(centroid: Int32[np.ndarray, " code"]) -> Int16[np.ndarray, " rise"]:
    """The first code's centroid, then by how much each next one is higher, modulo 2**16.

    >>> centroid_rises(np.array([-5, 3, 4], np.int32)).tolist()
    [-5, 8, 1, 0, 0, 0, 0, 0]
    """
    rises = np.zeros(THRESHOLDS + 1, np.int64)
    rises[: len(centroid)] = np.diff(centroid.astype(np.int64), prepend=0)
    return rises.astype(np.int16)


def table_entries(
    probability: Float64[np.ndarray, "count code"], centroid: Int32[np.ndarray, " code"]
) -> UInt16[np.ndarray, " entry"]:
    """One table for wide vectors: threshold by threshold of counts 0 to 63, then those of count 64, then rises."""
    thresholds = np.full((COUNTS_MAX, THRESHOLDS), NEVER, np.uint16)
    thresholds[: len(probability)] = cumulative_thresholds(probability)
    parts = [thresholds[:-1].T.ravel(), thresholds[-1], centroid_rises(centroid).view(np.uint16)]
    entries = np.concatenate(parts)
    return np.pad(entries, (0, -len(entries) % 32))


def in_blocks(weights: UInt64[np.ndarray, "line column"]) -> UInt64[np.ndarray, "line padded"]:
    """Weights in blocks of 32 columns, filled up with 0, in which column 4 i + j lies at 8 j + i.

    So four vectors of eight counts, shifted by 16 bits one against the other, make up one vector in order.

    >>> in_blocks(np.arange(32, dtype=np.uint64)[None])[0, :10].tolist()
    [0, 4, 8, 12, 16, 20, 24, 28, 1, 5]
    """
    lines, columns = weights.shape
    padded = np.pad(weights, ((0, 0), (0, -columns % LANES)))
    blocks = aligned(padded.shape, np.uint64)
    blocks[:] = padded.reshape(lines, -1, LANES // 4, 4).transpose(0, 1, 3, 2).reshape(lines, -1)
    return blocks


def draws(words: UInt32[np.ndarray, "*read pair"], columns: int) -> UInt16[np.ndarray, "*read column"]:
    """The 16-bit draws of every column: two share a word of `cosim.network.counter.column_words`, the lower half first.

    >>> draws(np.array([[0x00021234, 0xFFFFFFFF]], np.uint32), 3).tolist()
    [[4660, 2, 65534]]
    """
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1).astype(np.uint16)
    return np.minimum(halves.reshape(*words.shape[:-1], -1)[..., :columns], np.uint16(DRAW_MAX))
