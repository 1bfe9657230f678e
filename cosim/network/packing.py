"""Signs as bits of 64-bit words: bit 1 is +1, bit 0 is -1, least significant bit first."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int8, UInt64

WORD_BITS = 64
_CACHE_LINE = 64


def words_for(features: int) -> int:
    """The number of 64-bit words that `features` bits take.

    >>> words_for(784), words_for(1024), words_for(1)
    (13, 16, 1)
    """
    return -(-features // WORD_BITS)


def pack_bits(bits: Bool[np.ndarray, "*batch feature"]) -> UInt64[np.ndarray, "*batch word"]:
    """Bits as little-endian words; the bits after the last feature are 0.

    >>> pack_bits(np.array([True, False, True]))
    array([5], dtype=uint64)
    """
    octets = np.packbits(bits, axis=-1, bitorder="little")
    missing = words_for(bits.shape[-1]) * 8 - octets.shape[-1]
    padded = np.pad(octets, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(padded).view("<u8").astype(np.uint64, copy=False)


def unpack_bits(words: UInt64[np.ndarray, "*batch word"], features: int) -> Bool[np.ndarray, "*batch feature"]:
    """The first `features` bits of each row of words: `pack_bits` backwards.

    >>> unpack_bits(np.array([5], np.uint64), 3)
    array([ True, False,  True])
    """
    octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=features, bitorder="little").astype(np.bool_)


def pack_signs(signs: Int8[np.ndarray, "*batch feature"]) -> UInt64[np.ndarray, "*batch word"]:
    """Values +1 and -1 as bits.

    >>> pack_signs(np.array([1, -1, 1], np.int8))
    array([5], dtype=uint64)
    """
    return pack_bits(signs > 0)


def unpack_signs(words: UInt64[np.ndarray, "*batch word"], features: int) -> Int8[np.ndarray, "*batch feature"]:
    """The values +1 and -1 of packed words: `pack_signs` backwards.

    >>> unpack_signs(np.array([5], np.uint64), 3)
    array([ 1, -1,  1], dtype=int8)
    """
    return np.where(unpack_bits(words, features), np.int8(1), np.int8(-1))


def padding_is_clear(words: UInt64[np.ndarray, "*batch word"], features: int) -> bool:
    """Whether every bit after the last feature is 0.

    >>> padding_is_clear(np.array([7], np.uint64), 3), padding_is_clear(np.array([8], np.uint64), 3)
    (True, False)
    """
    used = pack_bits(np.ones(features, np.bool_))
    return not bool(np.any(words & ~used))


def aligned(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """An array, not filled, that begins on a cache line, so that no vector of it lies on two.

    >>> aligned((3, 5), np.int32).ctypes.data % 64
    0
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    octets = np.empty(size + _CACHE_LINE, np.uint8)
    first = -octets.ctypes.data % _CACHE_LINE
    return octets[first : first + size].view(dtype).reshape(shape)
