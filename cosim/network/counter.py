"""Randomness that belongs to the partial sum: a hash of a counter, no generator state.

The hash is the finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014; constants of Stafford's mix 13).
One partial sum takes one 64-bit hash of `key + (counter + 1) * GOLDEN`, where the key is a hash of
(seed, image, layer) and the counter is array * columns + column. As a sequence in the counter this is
splitmix64 itself. Two images draw the same numbers only where their keys lie less than n GOLDEN apart for a
layer of n partial sums: the chance of any such pair is 1e8 n / 2**64 for 10,000 images, below 1e-6 for n = 16,384.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt64

from cosim.errors import InputError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


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
