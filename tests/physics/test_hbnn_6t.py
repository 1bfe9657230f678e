"""The 6T column of binary weights and activations of 0 and 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process
from cosim.errors import InputError

RunDeck = Callable[[Deck], np.ndarray]
ROWS = 64
SAME_V = 2e-6
"""Columns that differ in the order of their rows alone: ngspice stops iterating at 10 uV a step (seen: below 1 uV)."""


@pytest.fixture(scope="module")
def bench() -> ColumnBench:
    return column_bench(load_cell("hbnn_6t"), load_process("generic65"))


def rows_of(plus: int, minus: int) -> np.ndarray:
    """Products: `plus` rows at +1, then `minus` at -1, the others off."""
    return np.repeat(np.array([1, -1, 0], np.int8), (plus, minus, ROWS - plus - minus))


def read(run_deck: RunDeck, bench: ColumnBench, products: np.ndarray, shifts: np.ndarray | float = 0.0) -> np.ndarray:
    weights = np.where(products < 0, -1, 1).astype(np.int8)
    return run_deck(column_deck(bench, products, weights, np.zeros((bench.rows, 6)) + shifts))


def test_a_product_fixes_its_weight(bench: ColumnBench) -> None:
    cell = bench.cell
    assert cell.states(1) == ((1, 1),)
    assert cell.states(-1) == ((-1, 1),)
    assert cell.states(0) == ((1, 0), (-1, 0))


@pytest.mark.parametrize("product", [1, -1])
def test_a_product_that_needs_an_input_of_minus_one_is_refused(bench: ColumnBench, product: int) -> None:
    products = np.zeros(ROWS, np.int8)
    products[3] = product
    weights = np.full(ROWS, -product, np.int8)
    with pytest.raises(InputError, match=r"row 3: product .1 with weight .1 needs input -1.*no drive for.*0") as caught:
        column_deck(bench, products, weights, np.zeros((ROWS, 6)))
    assert "\n" not in str(caught.value)


def test_each_product_pulls_its_own_line_and_an_input_of_zero_none(run_deck: RunDeck, bench: ColumnBench) -> None:
    minus, plus, off = (read(run_deck, bench, rows_of(*counts))[:2, 0] for counts in ((0, 8), (8, 0), (0, 0)))
    assert minus[0] < 0.95
    assert minus[1] == pytest.approx(1.0, abs=1e-3)
    # The rows that are off hold +1 in both columns and leak from BLB: 56 * 120 nm * 1.5 nA/um * 0.2 ns / 86 fF.
    np.testing.assert_allclose(plus, minus[::-1], atol=2.4e-5, rtol=0)
    np.testing.assert_allclose(off, 1.0, atol=1e-3)  # leakage of 64 pass gates for 0.2 ns


def test_bl_rises_and_blb_falls_with_the_count(run_deck: RunDeck, bench: ColumnBench) -> None:
    values = np.array([read(run_deck, bench, rows_of(k, ROWS - k))[:2, 0] for k in range(0, ROWS + 1, 8)])
    assert (np.diff(values[:, 0]) > 0.05).all()
    np.testing.assert_allclose(values[:, 1], values[::-1, 0], atol=SAME_V, rtol=0)


def test_few_rows_discharge_in_proportion(run_deck: RunDeck, bench: ColumnBench) -> None:
    """I t = C V for drops that are small against VDD: twice the rows, twice the drop but for the drain slope."""
    drops = [1 - read(run_deck, bench, rows_of(0, n))[0, 0] for n in (1, 2)]
    assert drops[1] == pytest.approx(2 * drops[0], rel=0.02)
    # reference: 8.1 uA a cell for 150 ps on 80 fF of wire and 64 junctions.
    assert drops[0] == pytest.approx(8.1e-6 * 150e-12 / 86e-15, rel=0.15)


def test_a_6t_column_falls_further_than_an_8t_one_with_half_the_junctions(
    run_deck: RunDeck, bench: ColumnBench
) -> None:
    other = column_bench(load_cell("xnor_8t"), bench.process)
    products = rows_of(32, 32)
    eight = run_deck(column_deck(other, products, np.where(products < 0, -1, 1).astype(np.int8), np.zeros((ROWS, 8))))
    assert 0.01 < eight[0, 0] - read(run_deck, bench, products)[0, 0] < 0.05


def test_cells_flip_at_the_full_word_line_voltage_and_not_at_the_default(run_deck: RunDeck, bench: ColumnBench) -> None:
    products = rows_of(4, ROWS - 4)
    weights = np.where(products < 0, -1, 1).astype(np.int8)
    shifts = np.random.default_rng(4).normal(size=(ROWS, 6)) * bench.cell.vth_sigmas(bench.process)
    assert not flipped_rows(bench, weights, read(run_deck, bench, products, shifts)).any()
    full = dataclasses.replace(bench, word_line_v=bench.corner.vdd_v)
    np.testing.assert_array_equal(flipped_rows(full, weights, read(run_deck, full, products)), products == 1)
