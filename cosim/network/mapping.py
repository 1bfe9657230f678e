"""Which cell every weight sits in: sub-arrays of a fixed number of rows, left-over rows off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from cosim.errors import InputError
from cosim.network.packing import WORD_BITS, pack_bits, unpack_bits, words_for
from cosim.network.window import Window, dense_window

DEFAULT_ROWS = 64
ROWS_MAX = 256
Order = Literal["flat", "positions"]
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Input i of every column lies in row `row[i]` of sub-array `array[i]`; rows without an input are off.

    Rows whose input lies in zero padding are off as well, so which rows are on depends on the position: positions
    that agree in it are of one kind, and a dense layer has one kind.

    Attributes:
        window: Where the inputs come from.
        rows: Rows of one sub-array, 1 to 256.
        array: Sub-array of each input, (input,).
        row: Row of each input in its sub-array, (input,).
        kind: Kind of each position, (position,).
        n_active: Rows that are on, (kind, array); a sub-array with none is not read.
        active: The bit plane of the rows that are on, (kind, array, word).
        on_off: Whether an input is 1 or 0 and turns its row on or off; then `n_active` and `active` are the rows
            that can be on.
    """

    window: Window
    rows: int
    array: Int64[np.ndarray, " input"]
    row: Int64[np.ndarray, " input"]
    kind: Int64[np.ndarray, " position"]
    n_active: Int64[np.ndarray, "kind array"]
    active: UInt64[np.ndarray, "kind array word"]
    on_off: bool = False

    @property
    def in_features(self) -> int:
        """The number of inputs of one column."""
        return self.window.in_features

    @property
    def arrays(self) -> int:
        """The number of sub-arrays below each other."""
        return self.n_active.shape[1]

    @property
    def words(self) -> int:
        """The number of 64-bit words that the rows of one sub-array take."""
        return self.active.shape[2]

    @property
    def kinds(self) -> tuple[int, ...]:
        """The different numbers of active rows, ascending, without 0: one readout is needed for each."""
        if self.on_off:
            return tuple(range(1, int(self.n_active.max()) + 1))
        return tuple(int(n) for n in np.unique(self.n_active) if n > 0)

    @property
    def reads(self) -> int:
        """How often one image reads a column of any sub-array; inputs that turn all rows off are not known here."""
        return int((self.n_active > 0).sum(axis=1)[self.kind].sum())


def map_inputs(in_features: int, rows: int = DEFAULT_ROWS) -> Mapping:
    """The sub-arrays that the inputs of a dense layer take: array a holds inputs [a * rows, (a + 1) * rows).

    Raises:
        InputError: rows is not in 1..256 or in_features is not positive.

    >>> m = map_inputs(130)
    >>> m.arrays, m.n_active.tolist(), m.kinds
    (3, [[64, 64, 2]], (2, 64))
    >>> hex(m.active[0, 2, 0])
    '0x3'
    """
    if in_features < 1:
        raise InputError(f"in_features must be positive, got {in_features}")
    return map_window(dense_window(in_features), rows)


def map_window(window: Window, rows: int = DEFAULT_ROWS, order: Order = "flat", *, on_off: bool = False) -> Mapping:
    """The sub-arrays that the inputs of a window take.

    Args:
        window: Where the inputs come from.
        rows: Rows of one sub-array.
        order: "flat": one input after the other, kernel position by kernel position, without gaps. "positions"
            (Saikia et al., DATE 2021): whole kernel positions, floor(rows / channels) to a sub-array; where
            the channels of one position are more than the rows, ceil(channels / rows) sub-arrays to a position.
            The two are the same for a dense layer, and where rows and channels divide each other.
        on_off: Whether an input is 1 or 0 and turns its row on or off.

    Raises:
        InputError: rows is not in 1..256, or there is no such order.

    >>> two = Window((24, 4, 4), (3, 3))
    >>> map_window(two, 64).n_active.tolist(), map_window(two, 64, "positions").n_active.tolist()
    ([[64, 64, 64, 24]], [[48, 48, 48, 48, 24]])
    """
    if not 1 <= rows <= ROWS_MAX:
        raise InputError(f"rows of a sub-array must be 1 to {ROWS_MAX}, got {rows}")
    if order not in ORDERS:
        raise InputError(f"the row order must be one of {', '.join(ORDERS)}, got {order!r}")
    array, row = _places(window, rows, order)
    seen = window.pixels() >= 0 if window.pad_value == 0 else np.ones((window.positions, window.taps), np.bool_)
    patterns, kind = np.unique(seen, axis=0, return_inverse=True)
    on: Bool[np.ndarray, "kind array row"] = np.zeros((len(patterns), int(array[-1]) + 1, rows), np.bool_)
    on[:, array, row] = patterns.repeat(window.channels, axis=1)
    kind = kind.reshape(-1).astype(np.int64)
    return Mapping(window, rows, array, row, kind, on.sum(axis=2), pack_bits(on), on_off)


def to_arrays(words: UInt64[np.ndarray, "column word"], mapping: Mapping) -> UInt64[np.ndarray, "column array word"]:
    """Densely packed weights laid out in their sub-arrays.

    >>> to_arrays(np.array([[0b110101]], np.uint64), map_inputs(6, rows=4)).tolist()
    [[[5], [3]]]
    """
    laid_out = np.zeros((len(words), mapping.arrays, mapping.rows), np.bool_)
    laid_out[:, mapping.array, mapping.row] = unpack_bits(words, mapping.in_features)
    return pack_bits(laid_out)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Inputs that lie side by side both in a packed map and in a sub-array, moved as one piece; all (run,).

    Attributes:
        tap: Kernel position.
        word: Word of the map's channels.
        shift: First bit in that word.
        mask: As many ones as there are bits.
        line: Word among all words of the sub-arrays: array * words + word.
        to: First bit in that word.
    """

    tap: Int64[np.ndarray, " run"]
    word: Int64[np.ndarray, " run"]
    shift: UInt64[np.ndarray, " run"]
    mask: UInt64[np.ndarray, " run"]
    line: Int64[np.ndarray, " run"]
    to: UInt64[np.ndarray, " run"]


def runs(mapping: Mapping) -> Runs:
    """How a packed map is laid out in sub-arrays; a run never leaves a word on either side.

    >>> found = runs(map_inputs(6, rows=4))
    >>> found.shift.tolist(), found.mask.tolist(), found.line.tolist()
    ([0, 4], [15, 3], [0, 1])
    """
    tap, channel = np.divmod(np.arange(mapping.in_features), mapping.window.channels)
    word, shift = np.divmod(channel, WORD_BITS)
    line, to = mapping.array * mapping.words + mapping.row // WORD_BITS, mapping.row % WORD_BITS
    breaks = (np.diff(tap) != 0) | (np.diff(word) != 0) | (np.diff(line) != 0)
    first = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    length = np.diff(np.append(first, mapping.in_features))
    mask = np.array([(1 << int(bits)) - 1 for bits in length], np.uint64)
    return Runs(tap[first], word[first], shift[first].astype(np.uint64), mask, line[first], to[first].astype(np.uint64))


def moves_nothing(mapping: Mapping) -> bool:
    """Whether a packed map is laid out in sub-arrays as it is."""
    window = mapping.window
    alone = window.taps == 1 and window.stride == (1, 1) and window.padding == (0, 0)
    return alone and mapping.rows % WORD_BITS == 0 and mapping.arrays * mapping.words == words_for(window.channels)


def _places(window: Window, rows: int, order: Order) -> tuple[Int64[np.ndarray, " input"], Int64[np.ndarray, " input"]]:
    """Sub-array and row of every input."""
    index = np.arange(window.in_features)
    if order == "flat":
        return index // rows, index % rows
    tap, channel = np.divmod(index, window.channels)
    if window.channels > rows:
        folds = -(-window.channels // rows)
        return tap * folds + channel // rows, channel % rows
    together = rows // window.channels
    return tap // together, (tap % together) * window.channels + channel
