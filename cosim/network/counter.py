"""Randomness that belongs to the partial sum: a hash of a counter, no generator state.

A key of 64 bits is hashed from (seed, image, layer), from it one for each read of a sub-array by the finalizer of
splitmix64 (Steele, Lea and Flood, OOPSLA 2014; constants of Stafford's mix 13): of `key + (read + 1) * GOLDEN`,
where the read is ((bit * parts + part) * positions + position) * arrays + array, with `bit` that of the activations
and `part` that of the columns (one part, or one for each bit of the weights where these have levels of their own). As
a sequence in the read this is splitmix64 itself. Each column then takes 32 bits: its number times an odd constant,
plus the lower half of the read's key, through two rounds of multiply and shift (constants of Wellons, "Prospecting for
hash functions", 2018) with the upper half in between. So two reads of a column of the same number agree by chance
only, and 32-bit operations are all that a column costs.

Two images draw the same numbers only where their keys lie less than n GOLDEN apart for a layer of n reads: the
chance of any such pair is 1e8 n / 2**64 for 10,000 images, below 1e-6 for n = 100,000.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt32, UInt64

from cosim.errors import InputError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
COLUMN, FIRST_32, SECOND_32 = 0x9E3779B9, 0x7FEB352D, 0x846CA68B


def mix(state: UInt64[np.ndarray, "*any"]) -> UInt64[np.ndarray, "*any"]:
    """The finalizer of splitmix64: a bijection of 64-bit words.

    >>> hex(mix(np.array([GOLDEN]))[0])
    '0xe220a8397b1dcdaf'
    """
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def image_keys(seed: int, layer: int, images: UInt64[np.ndarray, " image"]) -> UInt64[np.ndarray, " image"]:
    """One key for each image of a layer.

    Args:
        seed: 0 to 2**64 - 1.
        layer: The layer's position in the network.
        images: The images' positions in their set, not in their batch.

    Raises:
        InputError: The seed is out of range.
    """
    if not 0 <= seed < 2**64:
        raise InputError(f"seed must be 0 to 2**64 - 1, got {seed}")
    root = mix(np.array([seed], np.uint64) + GOLDEN)
    branch = mix(root + np.array([layer + 1], np.uint64) * GOLDEN)
    return mix(branch ^ mix((images.astype(np.uint64) + np.uint64(1)) * GOLDEN))


def read_keys(
    keys: UInt64[np.ndarray, " image"], reads: UInt64[np.ndarray, "*read"]
) -> UInt64[np.ndarray, "image *read"]:
    """One key for each read of a sub-array, from the images' keys and the reads' numbers."""
    shape = (-1,) + (1,) * reads.ndim
    return mix(keys.reshape(shape) + (reads.astype(np.uint64) + np.uint64(1)) * GOLDEN)


def later_keys(keys: UInt64[np.ndarray, " image"], reads: int) -> UInt64[np.ndarray, " image"]:
    """Keys whose first read is the one after `reads` reads of the given keys.

    >>> keys = np.array([1], np.uint64)
    >>> bool((read_keys(later_keys(keys, 3), np.arange(2)) == read_keys(keys, np.arange(3, 5))).all())
    True
    """
    return keys + np.array([reads], np.uint64) * GOLDEN


def column_words(keys: UInt64[np.ndarray, "*read"], columns: int) -> UInt32[np.ndarray, "*read column"]:
    """The 32 bits of every column of every read.

    >>> [hex(word) for word in column_words(np.array([1], np.uint64), 2)[0]]
    ['0x688990c0', '0x9f505634']
    """
    low, high = keys.astype(np.uint32)[..., None], (keys >> np.uint64(32)).astype(np.uint32)[..., None]
    word = low + np.arange(columns, dtype=np.uint32) * np.uint32(COLUMN)
    word = (word ^ (word >> np.uint32(16))) * np.uint32(FIRST_32)
    word = (word ^ (word >> np.uint32(15)) ^ high) * np.uint32(SECOND_32)
    return word ^ (word >> np.uint32(16))
