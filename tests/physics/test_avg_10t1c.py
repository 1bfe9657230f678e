"""The averaging column shares charge: gain and offset against the closed form, and its linearity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process

RunDeck = Callable[[Deck], np.ndarray]
SWING_V, C_CELL_F = 0.4, 2e-15


@pytest.fixture(scope="module")
def bench() -> ColumnBench:
    return column_bench(load_cell("avg_10t1c"), load_process("generic65"), rows=64)


def read(
    run_deck: RunDeck, bench: ColumnBench, plus: int, minus: int, shifts: np.ndarray | float = 0.0, seed: int = 1
) -> float:
    products = np.repeat(np.array([1, -1, 0], np.int8), (plus, minus, bench.rows - plus - minus))
    weights = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), bench.rows)
    values = run_deck(column_deck(bench, products, weights, np.zeros((bench.rows, 11)) + shifts))
    assert not flipped_rows(bench, weights, values).any()
    return float(values[0, 0])


def test_the_line_ends_at_the_rows_average(run_deck: RunDeck, bench: ColumnBench) -> None:
    """V = (sum C V_z + C_p V_reset) / (N C + C_p): one count is VDR C / (N C + C_p).

    C_p: 5 fF, 0.15 fF of wire a row, and of each row's open and shared gates about 0.14 fF: junctions and overlaps of
    120 nm at 0.7 fF/um, and the channel of the sharing one. reference: 5.33 mV, 0.06 count from the line.
    """
    counts = np.array([0, 16, 32, 48, 64])
    volts = np.array([read(run_deck, bench, k, 64 - k) for k in counts])
    step_v = (volts[-1] - volts[0]) / 64
    assert step_v == pytest.approx(SWING_V * C_CELL_F / (64 * (C_CELL_F + 0.29e-15) + 5e-15), rel=0.01)
    assert step_v == pytest.approx(5.33e-3, rel=0.02)
    np.testing.assert_allclose((volts - volts[0]) / step_v, counts, atol=0.15)


def test_the_share_gates_lift_the_line(run_deck: RunDeck, bench: ColumnBench) -> None:
    """reference: by 21 mV with its own sizes; a shared charge has no other source than the gates' edges."""
    bottom_v, step_v = read(run_deck, bench, 0, 64), 5.27e-3
    c_total_f = SWING_V * C_CELL_F / step_v
    shared_v = SWING_V / 2 * (c_total_f - 64 * C_CELL_F) / c_total_f
    assert 10e-3 < bottom_v - shared_v < 25e-3


def test_a_row_that_is_off_shares_the_middle(run_deck: RunDeck, bench: ColumnBench) -> None:
    count_v = 5.27e-3
    balanced = read(run_deck, bench, 32, 32)
    assert abs(read(run_deck, bench, 0, 0) - balanced) < 0.1 * count_v
    assert abs(read(run_deck, bench, 16, 16) - balanced) < 0.1 * count_v


def test_capacitor_mismatch_weighs_each_row(run_deck: RunDeck, bench: ColumnBench) -> None:
    """V moves by sum dC_i (V_i - V) / C_total, of which the converged circuit does 89 %.

    0.370 mV of 0.414, with 2 ps steps and reltol 1e-6 as well: what the gates put on a row's level is no part of C_i.
    """
    shifts = np.zeros((64, 11))
    shifts[:, 10] = 0.04 * np.random.default_rng(3).normal(size=64)
    plain = read(run_deck, bench, 32, 32)
    each_v = np.repeat([SWING_V, 0.0], 32)
    expected = (C_CELL_F * shifts[:, 10] * (each_v - plain)).sum() / (SWING_V * C_CELL_F / 5.27e-3)
    assert abs(expected) > 2e-4
    assert read(run_deck, bench, 32, 32, shifts) - plain == pytest.approx(0.89 * expected, rel=0.05)


def test_the_weights_do_not_matter_without_mismatch(run_deck: RunDeck, bench: ColumnBench) -> None:
    assert read(run_deck, bench, 20, 44, seed=1) == pytest.approx(read(run_deck, bench, 20, 44, seed=2), abs=2e-5)
