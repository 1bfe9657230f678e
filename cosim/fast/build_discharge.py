"""Builds the fast column of discharged lines: the bank, its surface, and capacitances fitted to a few full columns."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import least_squares

from cosim.circuit.column import ColumnBench
from cosim.errors import MeasuredWorseError
from cosim.fast.bank import CELLS, Bank, measure_bank
from cosim.fast.column import counts_of
from cosim.fast.discharge import DischargeColumn, Waveform
from cosim.fast.draws import Columns, simulate
from cosim.fast.electrical import Electrical
from cosim.fast.surface import fit_surface
from cosim.spice.engine import Engine

FIT_SHARES = ((1.0, 0.0), (0.0, 1.0), (0.75, 0.25), (0.25, 0.75), (0.5, 0.5), (0.88, 0.12), (0.12, 0.88))
FIT_SHARES_OFF = ((0.5, 0.0), (0.0, 0.25), (0.25, 0.5))
"""Shares of the rows that pull the first and the second line in the columns of the fit; the others are off."""

_MARK_WEIGHTS = np.array([0.1, 0.1, 0.3, 0.3, 1.0])
"""What an error at each mark counts: the early ones tell the coupling from the capacitance, the last is the read."""
_PRIOR_FF = np.array([0.1, 0.05, 0.05, 0.02, 0.05, 0.03, 0.03, 0.05])
"""How far the parameters of Electrical may be from their defaults, as a weak Gaussian prior, in fF."""
_PRIOR_MV = 0.05
LOWEST = 0.2
"""Lines that end lower than this share of the supply are left out of the fit, and not to be relied on: there the
inside of a cell follows its line, which a static current knows nothing of, and rows that do not pull a line feed it.
There the full column's own 20 ps steps err as well: by up to 1.7 mV at FF, 1 V, where 5 ps steps err by 0.15."""


def build_discharge(bench: ColumnBench, engine: Engine, *, seed: int = 0, cells: int = CELLS) -> DischargeColumn:
    """A fast column of a bench whose lines are discharged.

    Raises:
        MeasuredWorseError: The bank or the full columns gave no values.
    """
    return build_from_bank(bench, engine, measure_bank(bench, engine, seed=seed, cells=cells), seed=seed)


def build_from_bank(bench: ColumnBench, engine: Engine, bank: Bank, *, seed: int = 0) -> DischargeColumn:
    """A fast column from a bank that was measured at the bench's corner and word-line voltage.

    Rows, pulse and line capacitance may be others than those of the bench that the bank was measured with.

    Raises:
        MeasuredWorseError: The full columns gave no values.
    """
    surface = fit_surface(bank)
    counts = [(round(bench.rows * minus), round(bench.rows * plus)) for minus, plus in FIT_SHARES + FIT_SHARES_OFF]
    about: dict[str, str | int | float] = {
        "reliable_above_v": LOWEST * bench.corner.vdd_v,
        "cell": bench.cell.name,
        "process": bench.process.name,
        "corner": str(bench.corner),
        "seed": seed,
        "cells": bank.shift_v.shape[1],
        "flipped_cells": int((~bank.settled).sum()),
        "surface_error": float(surface.error.max()),
    }
    start = DischargeColumn(surface, Waveform.of(bench), Electrical(), about)
    return fit_electrical(start, simulate(bench, engine, counts, seed=seed + 1, marks_s=start.waveform.marks_s))


def fit_electrical(fast: DischargeColumn, columns: Columns) -> DischargeColumn:
    """The same fast column with the capacitances that make it agree best with full columns.

    Raises:
        MeasuredWorseError: Fewer than four columns can be used.
    """
    lowest_v = LOWEST * fast.waveform.vdd_v
    usable = np.isfinite(columns.voltage_v).all(axis=2) & ~columns.flipped[:, None]
    usable &= np.nan_to_num(columns.voltage_v).min(axis=2) > lowest_v
    if usable.sum() < 4:
        raise MeasuredWorseError(
            "too few full columns without flipped cells", place=str(fast.about["corner"]), hint="a lower word_line_v"
        )
    coefficient = fast.surface.coefficients(columns.products, columns.weights, columns.vth_shift_v)
    counts, begin = counts_of(columns.products), Electrical().to_array()

    def residual(parameters: np.ndarray) -> np.ndarray:
        found = fast.voltages(coefficient, counts, Electrical.from_array(parameters))
        error_mv = 1e3 * (found - columns.voltage_v)[usable] * _MARK_WEIGHTS
        return np.concatenate([error_mv.ravel(), _PRIOR_MV * (parameters - begin) / _PRIOR_FF])

    solved = least_squares(residual, begin, x_scale=_PRIOR_FF)
    read_mv = residual(solved.x)[: usable.sum() * _MARK_WEIGHTS.size].reshape(-1, _MARK_WEIGHTS.size)[:, -1]
    about = fast.about | {"fit_rms_v": float(1e-3 * np.sqrt((read_mv**2).mean()))}
    return dataclasses.replace(fast, electrical=Electrical.from_array(solved.x), about=about)
