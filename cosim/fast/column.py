"""What every fast column is, whatever its sensing style, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int8

from cosim.errors import InputError
from cosim.fast.bank import STATES
from cosim.fast.surface import Surface


@runtime_checkable
class FastColumn(Protocol):
    """A column that is read without a simulator; built by `cosim.fast.build.build_fast_column`."""

    @property
    def about(self) -> dict[str, str | int | float]:
        """Where it comes from: cell, process, corner, seed, and figures of the fit."""
        ...

    def read(
        self,
        products: Int8[np.ndarray, "sample row"],
        weights: Int8[np.ndarray, "sample row"],
        vth_shift_v: Float[np.ndarray, "sample row device"],
    ) -> Float[np.ndarray, "sample line"]:
        """What `column_deck` would read of every column, in volts; a pure function, the same bits in any batch.

        The second line is NaN for a cell with one line. Every row has its full current (`row_share` 1).

        Args:
            products: -1 pulls the first line, +1 the second, and a row of 0 is off.
            weights: What each row stores, -1 or +1.
            vth_shift_v: Shifts as in `column_deck`, in volts; of capacitors relative.

        Raises:
            InputError: An array has the wrong shape or values.
        """
        ...


def check_arrays(
    products: np.ndarray,
    weights: np.ndarray,
    vth_shift_v: np.ndarray,
    rows: int,
    devices: int,
    impossible: Sequence[tuple[int, int]],
) -> None:
    """Refuse arrays that `read` does not take.

    Args:
        products: As in `read`.
        weights: As in `read`.
        vth_shift_v: As in `read`.
        rows: Of the column.
        devices: With mismatch, of a cell.
        impossible: (product, weight) of the states that the cell has no input for.

    Raises:
        InputError: A shape or a value is wrong.
    """
    shape = (len(products), rows)
    if products.shape != shape or weights.shape != shape or vth_shift_v.shape != (*shape, devices):
        came = f"{products.shape}, {weights.shape} and {vth_shift_v.shape}"
        raise InputError(f"expected (sample, {rows}) twice and (sample, {rows}, {devices}), got {came}")
    if not np.isin(products, (-1, 0, 1)).all() or not np.isin(weights, (-1, 1)).all():
        raise InputError("products must be -1, 0 or +1 and weights -1 or +1")
    for product, weight in impossible:
        if ((products == product) & (weights == weight)).any():
            raise InputError(f"the cell has no input that gives {product:+d} with weight {weight:+d}")
    if not np.isfinite(vth_shift_v).all():
        raise InputError("threshold shifts must be finite")


def impossible_states(surface: Surface) -> list[tuple[int, int]]:
    """The (product, weight) pairs that a surface has no polynomial for."""
    return [state for state, many in zip(STATES, surface.features.min(axis=1), strict=True) if not many]


def counts_of(products: Int8[np.ndarray, "sample row"]) -> Float[np.ndarray, "sample line kind"]:
    """For each line: rows that pull it, rows that are on and do not, rows that are off.

    >>> counts_of(np.array([[-1, -1, 1, 0]], np.int8))[0].tolist()
    [[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]]
    """
    minus, plus, off = ((products == value).sum(axis=1) for value in (-1, 1, 0))
    return np.stack([np.stack([minus, plus, off], 1), np.stack([plus, minus, off], 1)], 1).astype(np.float64)
