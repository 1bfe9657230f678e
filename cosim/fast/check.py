"""The fast column measured against the full one on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cosim.circuit.column import ColumnBench
from cosim.fast.build import simulate
from cosim.fast.column import FastColumn
from cosim.spice.engine import Engine

BOUND_V = 0.1e-3
"""Largest bias and rms error that a fast column may have, in volts."""

LINES = ("bl", "blb", "difference")
"""The order of every `signal` axis: first line, second line, first minus second."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """Errors of the fast column (fast minus full), by count of rows that pull the first line.

    Args:
        count: The counts; all other rows pull the second line.
        bias_v: Mean error, in volts.
        rms_v: Standard deviation of the error around its mean, in volts.
        volts_a_count: What one more row does to the signal there, in volts, as a size.
        sigma_v: Standard deviation of the full column's signal, for comparison, in volts.
        lowest_v: The lowest voltage that a line of a count ended at, in volts.
        usable: Share of the draws that ran and had no flipped cell; the others have no part in the errors.
        bound_v: Bound on both bias and rms.
    """

    count: tuple[int, ...]
    bias_v: Float[np.ndarray, "count signal"]
    rms_v: Float[np.ndarray, "count signal"]
    volts_a_count: Float[np.ndarray, "count signal"]
    sigma_v: Float[np.ndarray, "count signal"]
    lowest_v: Float[np.ndarray, " count"]
    usable: Float[np.ndarray, " count"]
    bound_v: float

    @property
    def within(self) -> Bool[np.ndarray, "count signal"]:
        """Where bias and rms are within the bound; nowhere at a count with flipped cells or failed draws."""
        good = (np.abs(self.bias_v) <= self.bound_v) & (self.rms_v <= self.bound_v)
        return good & (self.usable == 1)[:, None]

    @property
    def passed(self) -> bool:
        """Whether the fast column may stand for the full one at every count."""
        return bool(self.within.all())


def check(
    fast: FastColumn,
    bench: ColumnBench,
    engine: Engine,
    *,
    draws: int = 20,
    counts: Sequence[int] | None = None,
    seed: int = 1000,
    bound_v: float = BOUND_V,
) -> Check:
    """Simulate `draws` full columns at every count and compare; a draw takes about a tenth of a second.

    Args:
        counts: Rows that pull the first line; by default 0, 1/4, 1/2, 3/4 and 15/16 of the rows.
        seed: Of the draws; must not be the one that the fast column was fitted to.
    """
    rows = bench.rows
    chosen = tuple(counts) if counts is not None else (0, rows // 4, rows // 2, 3 * rows // 4, 15 * rows // 16)
    pairs = [(count, rows - count) for count in chosen for _ in range(draws)]
    columns = simulate(bench, engine, pairs, seed=seed)
    usable = np.isfinite(columns.voltage_v).all(axis=(1, 2)) & ~columns.flipped
    full_v = _signals(columns.voltage_v[:, :, -1]).reshape(len(chosen), draws, 3)
    fast_v = _signals(fast.read(columns.products, columns.weights, columns.vth_shift_v)).reshape(full_v.shape)
    masked = np.where(usable.reshape(len(chosen), draws, 1), full_v, np.nan)
    return _compared(chosen, fast_v - masked, masked, usable.reshape(len(chosen), draws), bound_v)


def _compared(
    counts: tuple[int, ...], error_v: np.ndarray, full_v: np.ndarray, usable: np.ndarray, bound_v: float
) -> Check:
    """The moments over draws; NaN where a count has no usable draw."""
    moments = np.full((4, len(counts), 3), np.nan)
    lowest_v = np.full(len(counts), np.nan)
    for i in np.flatnonzero(usable.any(axis=1)):
        errors, values = error_v[i, usable[i]], full_v[i, usable[i]]
        moments[:, i] = errors.mean(0), errors.std(0), values.mean(0), values.std(0)
        lowest_v[i] = values[:, :2].min()
    slope = np.full((len(counts), 3), np.nan) if len(counts) < 2 else np.gradient(moments[2], counts, axis=0)
    share = usable.mean(axis=1)
    return Check(counts, moments[0], moments[1], np.abs(slope), moments[3], lowest_v, share, bound_v)


def _signals(lines_v: Float[np.ndarray, "sample line"]) -> Float[np.ndarray, "sample signal"]:
    return np.c_[lines_v, lines_v[:, 0] - lines_v[:, 1]]
