"""Builds a fast column: the bank, its surface, and the capacitances fitted to a few full columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8
from scipy.optimize import least_squares

from cosim.circuit.column import ColumnBench, column_deck, flipped_rows
from cosim.errors import InputError, MeasuredWorseError
from cosim.fast.bank import CELLS, Bank, measure_bank
from cosim.fast.column import FastColumn, Waveform, counts_of
from cosim.fast.electrical import Electrical
from cosim.fast.surface import fit_surface
from cosim.spice.engine import Engine, Failed

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
inside of a cell follows its line, which a static current knows nothing of (millivolts; so are the full column's own
20 ps steps)."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Drawn columns and what the full circuit makes of them.

    Args:
        products: As in `column_deck`.
        weights: As in `column_deck`.
        vth_shift_v: As in `column_deck`.
        voltage_v: Both lines at the marks of the waveform, in volts; NaN where the simulation failed.
        flipped: Whether a cell lost what it stored.
    """

    products: Int8[np.ndarray, "sample row"]
    weights: Int8[np.ndarray, "sample row"]
    vth_shift_v: Float[np.ndarray, "sample row device"]
    voltage_v: Float[np.ndarray, "sample line mark"]
    flipped: Bool[np.ndarray, " sample"]


def build_fast_column(bench: ColumnBench, engine: Engine, *, seed: int = 0, cells: int = CELLS) -> FastColumn:
    """A fast column of a bench: about ten seconds of ngspice.

    It is as good as `cosim.fast.check.check` says, which simulates other draws.

    Raises:
        InputError: The cell is not read by discharging its bit lines.
        MeasuredWorseError: The bank or the full columns gave no values: use the full column here.
    """
    if bench.cell.sensing != "discharge":
        raise InputError(f"the fast column reads cells of sensing discharge, {bench.cell.name} is {bench.cell.sensing}")
    return build_from_bank(bench, engine, measure_bank(bench, engine, seed=seed, cells=cells), seed=seed)


def build_from_bank(bench: ColumnBench, engine: Engine, bank: Bank, *, seed: int = 0) -> FastColumn:
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
    start = FastColumn(surface, Waveform.of(bench), Electrical(), about)
    return fit_electrical(start, simulate(bench, engine, counts, seed=seed + 1))


def simulate(bench: ColumnBench, engine: Engine, counts: list[tuple[int, int]], *, seed: int) -> Columns:
    """Full columns with `(minus, plus)` rows that pull the first and the second line, one draw each.

    The same bench, counts and seed give the same draws.
    """
    draws = [_draw(bench, minus, plus, seed, index) for index, (minus, plus) in enumerate(counts)]
    marks_s = Waveform.of(bench).marks_s
    decks = [dataclasses.replace(column_deck(bench, *draw), times_s=marks_s) for draw in draws]
    voltage_v = np.full((len(decks), 2, len(marks_s)), np.nan)
    flipped = np.zeros(len(decks), bool)
    for index, (result, draw) in enumerate(zip(engine.run(decks, timeout_s=300.0), draws, strict=True)):
        if not isinstance(result, Failed):
            voltage_v[index] = result.values[:2]
            flipped[index] = flipped_rows(bench, draw[1], result.values).any()
    products, weights, vth_shift_v = (np.array(values) for values in zip(*draws, strict=True))
    return Columns(products, weights, vth_shift_v, voltage_v, flipped)


def fit_electrical(fast: FastColumn, columns: Columns) -> FastColumn:
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
    coefficient = fast.coefficients(columns.products, columns.weights, columns.vth_shift_v)
    counts, begin = counts_of(columns.products), Electrical().to_array()

    def residual(parameters: np.ndarray) -> np.ndarray:
        found = fast.voltages(coefficient, counts, Electrical.from_array(parameters))
        error_mv = 1e3 * (found - columns.voltage_v)[usable] * _MARK_WEIGHTS
        return np.concatenate([error_mv.ravel(), _PRIOR_MV * (parameters - begin) / _PRIOR_FF])

    solved = least_squares(residual, begin, x_scale=_PRIOR_FF)
    read_mv = residual(solved.x)[: usable.sum() * _MARK_WEIGHTS.size].reshape(-1, _MARK_WEIGHTS.size)[:, -1]
    about = fast.about | {"fit_rms_v": float(1e-3 * np.sqrt((read_mv**2).mean()))}
    return dataclasses.replace(fast, electrical=Electrical.from_array(solved.x), about=about)


def _draw(
    bench: ColumnBench, minus: int, plus: int, seed: int, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products in random order, weights at random as far as the cell has an input for them, and Gaussian shifts."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(minus, plus, index))))
    products = np.zeros(bench.rows, np.int8)
    products[:minus] = -1
    products[minus : minus + plus] = 1
    sigmas = bench.cell.vth_sigmas(bench.process)
    products = generator.permutation(products)
    weights = generator.choice(np.array([-1, 1], np.int8), bench.rows)
    # A cell whose inputs are 0 and 1 gives a product with one weight only.
    impossible = ~np.isin(products.astype(np.int64) * weights, list(bench.cell.drive))
    weights[impossible] *= -1
    return products, weights, generator.standard_normal((bench.rows, sigmas.size)) * sigmas
