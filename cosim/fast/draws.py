"""Columns drawn at random and what the full circuit makes of them: for fits and for checks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8

from cosim.circuit.column import ColumnBench, column_deck, flipped_rows
from cosim.fast.sweep import TIMEOUT_S
from cosim.spice.engine import Engine, Failed


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Drawn columns and what the full circuit makes of them.

    Args:
        products: As in `column_deck`.
        weights: As in `column_deck`.
        vth_shift_v: As in `column_deck`.
        voltage_v: Both lines at the marks, in volts; NaN where the simulation failed, and for a line that the cell
            does not have.
        flipped: Whether a cell lost what it stored.
        usable: Whether the simulation ran and no cell flipped.
    """

    products: Int8[np.ndarray, "sample row"]
    weights: Int8[np.ndarray, "sample row"]
    vth_shift_v: Float[np.ndarray, "sample row device"]
    voltage_v: Float[np.ndarray, "sample line mark"]
    flipped: Bool[np.ndarray, " sample"]
    usable: Bool[np.ndarray, " sample"]


def simulate(
    bench: ColumnBench,
    engine: Engine,
    counts: list[tuple[int, int]],
    *,
    seed: int,
    marks_s: tuple[float, ...] | None = None,
) -> Columns:
    """Full columns with `(minus, plus)` rows that pull the first and the second line, one draw each.

    The same bench, counts and seed give the same draws.

    Args:
        bench: The column.
        engine: What runs it.
        counts: Rows that pull the first line, and the second; the others are off.
        seed: Of the draws.
        marks_s: When the lines are read, in seconds; the last is the read, which is the only one by default.
    """
    draws = [_draw(bench, minus, plus, seed, index) for index, (minus, plus) in enumerate(counts)]
    products, weights, vth_shift_v = (np.array(values) for values in zip(*draws, strict=True))
    return simulate_columns(bench, engine, products, weights, vth_shift_v, marks_s=marks_s)


def simulate_columns(
    bench: ColumnBench,
    engine: Engine,
    products: Int8[np.ndarray, "sample row"],
    weights: Int8[np.ndarray, "sample row"],
    vth_shift_v: Float[np.ndarray, "sample row device"],
    *,
    marks_s: tuple[float, ...] | None = None,
) -> Columns:
    """Full columns of given rows, each as `column_deck` takes it; the rest as `simulate`."""
    times_s = marks_s or (bench.sense_time_s,)
    given = list(zip(products, weights, vth_shift_v, strict=True))
    decks = [dataclasses.replace(column_deck(bench, *draw), times_s=times_s) for draw in given]
    lines = len(bench.cell.ports.bit_lines)
    voltage_v = np.full((len(decks), 2, len(times_s)), np.nan)
    flipped, ran = np.zeros(len(decks), bool), np.zeros(len(decks), bool)
    for index, (result, draw) in enumerate(zip(engine.run(decks, timeout_s=TIMEOUT_S), given, strict=True)):
        if not isinstance(result, Failed):
            ran[index] = True
            voltage_v[index, :lines] = result.values[:lines]
            flipped[index] = flipped_rows(bench, draw[1], result.values).any()
    return Columns(products, weights, vth_shift_v, voltage_v, flipped, ran & ~flipped)


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
