"""What a column must do whatever the circuit's numbers are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process

RunDeck = Callable[[Deck], np.ndarray]
ROWS = 64
SYMMETRIC_V = 2e-6
"""Columns that differ in the order of their rows alone; the sum of 64 currents is rounded, and ngspice stops
iterating at 10 uV a step (seen: below 1 uV)."""


@pytest.fixture(scope="module")
def bench() -> ColumnBench:
    return column_bench(load_cell("xnor_8t"), load_process("generic65"))


def with_count(count: int) -> np.ndarray:
    """Products with `count` rows at +1 and the others at -1."""
    return np.where(np.arange(ROWS) < count, 1, -1).astype(np.int8)


def alternating() -> np.ndarray:
    return np.where(np.arange(ROWS) % 2, 1, -1).astype(np.int8)


def read(run_deck: RunDeck, bench: ColumnBench, products: np.ndarray, **given: np.ndarray) -> np.ndarray:
    shifts = given.get("shifts", np.zeros((bench.rows, len(bench.cell.devices))))
    weights = given.get("weights", np.ones(bench.rows, np.int8))
    return run_deck(column_deck(bench, products, weights, shifts))


def test_a_capacitor_discharges_as_the_closed_form_says(run_deck: RunDeck) -> None:
    """V = V0 exp(-t / RC); trapezoidal steps of RC / 50 err by (1/50)^2 / 12 of V a time constant, 3e-5."""
    times_s = tuple(np.array([0.5, 1.0, 2.0]) * 1e-10)
    text = "* RC\nr1 a 0 10k\nc1 a 0 10f\n.ic v(a)=0.8\n.save v(a)\n.tran 2p 201p 0 2p uic\n.end\n"
    values = run_deck(Deck(text, ("a",), times_s))
    np.testing.assert_allclose(values[0], 0.8 * np.exp(-np.array(times_s) / 1e-10), rtol=2e-4)


def test_without_mismatch_only_the_count_matters(run_deck: RunDeck, bench: ColumnBench) -> None:
    """Zero spread: any order of the products and any weights give the same bit lines."""
    rng = np.random.default_rng(8)
    first = read(run_deck, bench, with_count(20))[:2]
    for _ in range(2):
        products = rng.permutation(with_count(20))
        weights = rng.choice(np.array([-1, 1], np.int8), ROWS)
        again = read(run_deck, bench, products, weights=weights)[:2]
        np.testing.assert_allclose(again, first, atol=SYMMETRIC_V, rtol=0)


def test_the_same_shift_on_every_row_gives_no_spread_either(run_deck: RunDeck, bench: ColumnBench) -> None:
    row = np.random.default_rng(1).normal(size=8) * bench.cell.vth_sigmas(bench.process)
    shifts = np.tile(row, (ROWS, 1))
    order = np.random.default_rng(2).permutation(ROWS)
    one = read(run_deck, bench, with_count(20), shifts=shifts)[:2]
    other = read(run_deck, bench, with_count(20)[order], shifts=shifts)[:2]
    assert abs(one - read(run_deck, bench, with_count(20))[:2]).max() > 1e-3
    np.testing.assert_allclose(other, one, atol=SYMMETRIC_V, rtol=0)


def test_bl_rises_and_blb_falls_with_the_count(run_deck: RunDeck, bench: ColumnBench) -> None:
    values = np.array([read(run_deck, bench, with_count(count))[:2, 0] for count in range(0, ROWS + 1, 8)])
    assert (np.diff(values[:, 0]) > 0.03).all()
    assert (np.diff(values[:, 1]) < -0.03).all()
    # The figures of the reference card, without mismatch: near, not the same.
    assert values[0, 0] == pytest.approx(0.254, abs=0.03)
    assert values[4, 0] == pytest.approx(0.594, abs=0.02)
    assert values[-1, 0] == pytest.approx(1.0, abs=1e-3)


def test_negated_products_exchange_the_bit_lines(run_deck: RunDeck, bench: ColumnBench) -> None:
    """Exchanging the cell's two sides, mismatch included, exchanges BL and BLB."""
    shifts = np.random.default_rng(3).normal(size=(ROWS, 8)) * bench.cell.vth_sigmas(bench.process)
    mirror = [1, 0, 3, 2, 5, 4, 7, 6]
    one = read(run_deck, bench, with_count(24), weights=alternating(), shifts=shifts)[:2, 0]
    other = read(run_deck, bench, -with_count(24), weights=-alternating(), shifts=shifts[:, mirror])[:2, 0]
    np.testing.assert_allclose(other, one[::-1], atol=SYMMETRIC_V, rtol=0)


def test_rows_that_are_off_do_nothing(run_deck: RunDeck, bench: ColumnBench) -> None:
    products = with_count(32)
    products[::2] = 0
    half = read(run_deck, bench, products)[:2, 0]
    off = read(run_deck, bench, np.zeros(ROWS, np.int8))[:2, 0]
    np.testing.assert_allclose(off, 1.0, atol=1e-3)  # leakage of 64 pass gates for 0.2 ns
    assert (half > read(run_deck, bench, with_count(32))[:2, 0] + 0.1).all()


def test_no_cell_flips_at_the_default_word_line_voltage(run_deck: RunDeck, bench: ColumnBench) -> None:
    shifts = np.random.default_rng(4).normal(size=(ROWS, 8)) * bench.cell.vth_sigmas(bench.process)
    for count in (4, 32):
        values = read(run_deck, bench, with_count(count), weights=alternating(), shifts=shifts)
        assert not flipped_rows(bench, alternating(), values).any()


def test_cells_flip_at_the_full_word_line_voltage_and_are_reported(run_deck: RunDeck, bench: ColumnBench) -> None:
    """The many rows that pull BL drag it to ground, and the few that hold it high there lose their value."""
    full = dataclasses.replace(bench, word_line_v=bench.corner.vdd_v)
    products, weights = with_count(4), alternating()
    values = read(run_deck, full, products, weights=weights)
    flipped = flipped_rows(full, weights, values)
    assert flipped[products == 1].all()
    assert not flipped[products == -1].any()


def test_more_mismatch_spreads_the_bit_line_more(run_deck: RunDeck, bench: ColumnBench) -> None:
    """Four times the area halves every sigma, and to first order the bit line's shift on the same draw."""
    draw = np.random.default_rng(5).normal(size=(ROWS, 8)) * bench.cell.vth_sigmas(bench.process)
    plain = read(run_deck, bench, with_count(32))[:2, 0]
    shift = [read(run_deck, bench, with_count(32), shifts=draw * s)[:2, 0] - plain for s in (0.5, -0.5, 0.25, -0.25)]
    odd = [(shift[0] - shift[1]) / 2, (shift[2] - shift[3]) / 2]
    np.testing.assert_allclose(odd[0], 2 * odd[1], rtol=0.05, atol=1e-4)


def test_an_edge_is_never_jumped_over(run_deck: RunDeck, bench: ColumnBench) -> None:
    """ngspice 39 loses a pulse's corners when a step ends a rounding error before one (cosim.circuit.sources).

    Nearby pulses must then give nearby bit lines: 0.3 ps is worth 0.3 ps * 300 uA / 92 fF = 1 mV each.
    """
    pulses_s = 1e-12 * np.arange(140, 146, 0.3)
    small = dataclasses.replace(bench, rows=4, c_bit_line_f=5e-15)
    products = np.array([1, 1, -1, -1], np.int8)
    values = [read(run_deck, dataclasses.replace(small, pulse_s=float(p)), products)[0, 0] for p in pulses_s]
    steps = np.diff(values)
    assert (steps < 0).all()
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.2)
