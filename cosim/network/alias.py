"""Alias tables (Walker, ACM TOMS 3(3), 1977; built by Vose's order) in integers, so that they are exact.

An entry is one 64-bit word: bits 0..31 the threshold, bits 32..47 the centroid of the slot's own code, bits
48..63 the centroid of its alias, both as 16-bit two's complement. A draw takes the slot from the top bits of
a 32-bit hash and compares the other bits, moved up to the top, with the threshold: below it is the own code. So
probabilities are rounded to 2**-32.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int32, UInt64

_UNIT = 2**32


def slot_bits(codes: int) -> int:
    """log2 of the number of slots for `codes` codes; at least 1.

    >>> slot_bits(8), slot_bits(9), slot_bits(1)
    (3, 4, 1)
    """
    return max(1, (codes - 1).bit_length())


def alias_entries(
    probability: Float64[np.ndarray, "count code"], centroid: Int32[np.ndarray, " code"], codes: int
) -> UInt64[np.ndarray, "count slot"]:
    """The entries of every count, with slots enough for `codes` codes.

    Args:
        probability: P(code | count), each row summing to 1 within rounding.
        centroid: One a code, within 16 bits.
        codes: Sets the number of slots; at least the number of codes here.
    """
    bits = slot_bits(codes)
    padded = np.zeros(2**bits, np.int64)
    padded[: len(centroid)] = centroid
    halves = padded.astype(np.int16).astype(np.uint16).astype(np.uint64)
    entries = np.empty((len(probability), 2**bits), np.uint64)
    for count, row in enumerate(probability):
        threshold, other = _vose(_integer_shares(row, bits))
        entries[count] = threshold | halves << np.uint64(32) | halves[other] << np.uint64(48)
    return entries


def _integer_shares(row: Float64[np.ndarray, " code"], bits: int) -> list[int]:
    """Non-negative integers that sum to 2**(32 + bits), one a slot; the largest takes the rounding."""
    total = _UNIT << bits
    shares = [int(p * total) for p in row / row.sum()] + [0] * (2**bits - len(row))
    shares[shares.index(max(shares))] += total - sum(shares)
    return shares


def _vose(shares: list[int]) -> tuple[UInt64[np.ndarray, " slot"], np.ndarray]:
    """Threshold and alias of every slot; a full slot is its own alias, so that 2**32 is never needed."""
    threshold, other = [0] * len(shares), list(range(len(shares)))
    small = [slot for slot, share in enumerate(shares) if share < _UNIT]
    large = [slot for slot, share in enumerate(shares) if share > _UNIT]
    while small:
        slot, donor = small.pop(), large[-1]
        threshold[slot], other[slot] = shares[slot], donor
        shares[donor] -= _UNIT - shares[slot]
        if shares[donor] <= _UNIT:
            large.pop()
            if shares[donor] < _UNIT:
                small.append(donor)
    return np.array(threshold, np.uint64), np.array(other)
