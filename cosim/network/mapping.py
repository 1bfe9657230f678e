"""Where the inputs of a layer lie: sub-arrays of a fixed number of rows, left-over rows off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt64

from cosim.errors import InputError
from cosim.network.packing import WORD_BITS, pack_bits, unpack_bits

DEFAULT_ROWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Sub-array a holds inputs [a * rows, (a + 1) * rows); rows without an input are off.

    A sub-array is one 64-bit word of which bits 0..rows-1 are used.

    Attributes:
        in_features: Inputs of the layer.
        rows: Rows of one sub-array, 1 to 64.
        n_active: Rows that are on, (array,).
        active: The bit plane of the rows that are on, (array,).
    """

    in_features: int
    rows: int
    n_active: Int64[np.ndarray, " array"]
    active: UInt64[np.ndarray, " array"]

    @property
    def arrays(self) -> int:
        """The number of sub-arrays."""
        return len(self.n_active)

    @property
    def kinds(self) -> tuple[int, ...]:
        """The different numbers of active rows, ascending: one readout is needed for each."""
        return tuple(int(n) for n in np.unique(self.n_active))


def map_inputs(in_features: int, rows: int = DEFAULT_ROWS) -> Mapping:
    """The sub-arrays that `in_features` inputs take.

    Raises:
        InputError: rows is not in 1..64 or in_features is not positive.

    >>> m = map_inputs(130)
    >>> m.arrays, m.n_active.tolist(), m.kinds
    (3, [64, 64, 2], (2, 64))
    >>> hex(m.active[2])
    '0x3'
    """
    if not 1 <= rows <= WORD_BITS:
        raise InputError(f"rows of a sub-array must be 1 to {WORD_BITS}, got {rows}")
    if in_features < 1:
        raise InputError(f"in_features must be positive, got {in_features}")
    arrays = -(-in_features // rows)
    n_active = np.full(arrays, rows, np.int64)
    n_active[-1] = in_features - (arrays - 1) * rows
    active = pack_bits(np.arange(rows) < n_active[:, None])[:, 0]
    return Mapping(in_features, rows, n_active, active)


def to_arrays(words: UInt64[np.ndarray, "*batch word"], mapping: Mapping) -> UInt64[np.ndarray, "*batch array"]:
    """Densely packed inputs laid out with one word a sub-array.

    >>> to_arrays(np.array([0b110101], np.uint64), map_inputs(6, rows=4)).tolist()
    [5, 3]
    """
    if mapping.rows == WORD_BITS:
        return words
    bits = unpack_bits(words, mapping.in_features)
    missing = mapping.arrays * mapping.rows - mapping.in_features
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    return pack_bits(padded.reshape(*bits.shape[:-1], mapping.arrays, mapping.rows))[..., 0]
