"""The fast column measured against the full one on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cosim.circuit.column import ColumnBench
from cosim.fast.column import FastColumn
from cosim.fast.draws import simulate
from cosim.spice.engine import Engine

BOUND_V = 0.1e-3
"""Largest bias and rms error that the fast column of a discharging cell may have, in volts."""

BOUND_COUNTS = 0.1 / 9.5
"""The same for other cells, in counts of the first line where a count is smallest: what 0.1 mV is of the 9.5 mV that a
count is at the bottom of the 8T column's range (TT, 1 V, 27 C)."""

MEAN_COUNTS = 0.1
"""Largest error of the mean, in counts."""

SIGMA_SHARE = 0.02
"""Largest error of sigma, as a share of sigma."""

SIGMA_COUNTS = BOUND_COUNTS / SIGMA_SHARE
"""Where sigma is less than this (half a count: capacitors, a line that few rows pull), its error is a share of this:
the bound is then the one that bias and rms have, and an error of a hundredth of a count moves no read."""

LINES = ("bl", "blb", "difference")
"""The order of every `signal` axis: first line, second line, first minus second."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """Errors of the fast column (fast minus full), by count of rows that pull the first line.

    Signals that a cell with one line does not have are NaN.

    Args:
        count: The counts; all other rows pull the second line.
        bias_v: Mean error, in volts.
        rms_v: Standard deviation of the error around its mean, in volts.
        volts_a_count: What one more row does to the signal there, in volts, as a size.
        sigma_v: Standard deviation of the full column's signal, in volts.
        fast_sigma_v: Of the fast column's, on the same draws.
        lowest_v: The lowest voltage that a line of a count ended at, in volts.
        usable: Share of the draws that ran and had no flipped cell; the others have no part in the errors.
        bound_v: Bound on both bias and rms.
        draws: At each count.
        end_v: Where each line ended in each draw in the full column, in volts; NaN where it is not usable.
    """

    count: tuple[int, ...]
    bias_v: Float[np.ndarray, "count signal"]
    rms_v: Float[np.ndarray, "count signal"]
    volts_a_count: Float[np.ndarray, "count signal"]
    sigma_v: Float[np.ndarray, "count signal"]
    fast_sigma_v: Float[np.ndarray, "count signal"]
    lowest_v: Float[np.ndarray, " count"]
    usable: Float[np.ndarray, " count"]
    bound_v: float
    draws: int
    end_v: Float[np.ndarray, "count draw line"]

    @property
    def mean_error_counts(self) -> Float[np.ndarray, "count signal"]:
        """Error of the mean on the same draws, in counts, as a size."""
        return np.abs(self.bias_v) / self.volts_a_count

    @property
    def sigma_error(self) -> Float[np.ndarray, "count signal"]:
        """Error of sigma on the same draws, as a share of sigma, as a size.

        Where sigma is less than SIGMA_COUNTS, as a share of that.
        """
        floor_v = np.maximum(self.sigma_v, SIGMA_COUNTS * self.volts_a_count)
        return np.abs(self.fast_sigma_v - self.sigma_v) / floor_v

    @property
    def present(self) -> Bool[np.ndarray, " signal"]:
        """Which signals the cell has."""
        second = bool(np.isfinite(self.end_v[:, :, 1]).any())
        return np.array([True, second, second])

    @property
    def within(self) -> Bool[np.ndarray, "count signal"]:
        """Where bias, rms, the error of the mean and that of sigma are all within their bounds.

        Nowhere at a count with flipped cells or failed draws; True for a signal that the cell does not have.
        """
        good = (np.abs(self.bias_v) <= self.bound_v) & (self.rms_v <= self.bound_v)
        good &= (self.mean_error_counts <= MEAN_COUNTS) & (self.sigma_error <= SIGMA_SHARE)
        return (good | ~self.present) & (self.usable == 1)[:, None]

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
    bound_v: float | None = None,
) -> Check:
    """Simulate `draws` full columns at every count and compare; a draw of 64 rows takes about a tenth of a second.

    Args:
        fast: What is checked.
        bench: Its column; with a smaller time_step_s, the full column errs less.
        engine: What runs it.
        draws: At every count.
        counts: Rows that pull the first line; by default 0, 1/4, 1/2, 3/4 and 15/16 of the rows.
        seed: Of the draws; must not be the one that the fast column was fitted to.
        bound_v: On bias and rms, in volts. By default BOUND_V for a discharging cell; for others BOUND_COUNTS of
            what a count is where it is smallest on the first line.
    """
    rows = bench.rows
    chosen = tuple(counts) if counts is not None else (0, rows // 4, rows // 2, 3 * rows // 4, 15 * rows // 16)
    pairs = [(count, rows - count) for count in chosen for _ in range(draws)]
    columns = simulate(bench, engine, pairs, seed=seed)
    shape = len(chosen), draws
    usable = columns.usable.reshape(shape)
    full_v = np.where(usable[:, :, None], columns.voltage_v[:, :, -1].reshape(*shape, 2), np.nan)
    fast_v = fast.read(columns.products, columns.weights, columns.vth_shift_v).reshape(*shape, 2)
    if bound_v is None and bench.cell.sensing == "discharge":
        bound_v = BOUND_V
    return compared(chosen, fast_v, full_v, usable, bound_v)


def compared(
    counts: tuple[int, ...],
    fast_v: Float[np.ndarray, "count draw line"],
    full_v: Float[np.ndarray, "count draw line"],
    usable: Bool[np.ndarray, "count draw"],
    bound_v: float | None = None,
) -> Check:
    """The comparison of given reads; a count without a usable draw is NaN.

    Args:
        counts: Rows that pull the first line.
        fast_v: The fast column's lines, in volts.
        full_v: The full column's, NaN where they are not usable.
        usable: Which draws ran and had no flipped cell.
        bound_v: On bias and rms; by default BOUND_COUNTS where a count is smallest.
    """
    moments = np.full((5, len(counts), len(LINES)), np.nan)
    lowest_v = np.full(len(counts), np.nan)
    for i in np.flatnonzero(usable.any(axis=1)):
        found, wanted = _signals(fast_v[i, usable[i]]), _signals(full_v[i, usable[i]])
        error_v = found - wanted
        moments[:, i] = error_v.mean(0), error_v.std(0), wanted.mean(0), wanted.std(0), found.std(0)
        lowest_v[i] = np.nanmin(wanted[:, :2])
    bias_v, rms_v, mean_v, sigma_v, fast_sigma_v = moments
    slope_v = np.abs(np.full(mean_v.shape, np.nan) if len(counts) < 2 else np.gradient(mean_v, counts, axis=0))
    if bound_v is None:
        known = slope_v[np.isfinite(slope_v[:, 0]), 0]
        bound_v = BOUND_COUNTS * float(known.min()) if known.size else float("nan")
    found = (bias_v, rms_v, slope_v, sigma_v, fast_sigma_v, lowest_v, usable.mean(axis=1))
    return Check(counts, *found, bound_v, usable.shape[1], full_v)


def _signals(lines_v: Float[np.ndarray, "sample line"]) -> Float[np.ndarray, "sample signal"]:
    return np.c_[lines_v, lines_v[:, 0] - lines_v[:, 1]]
