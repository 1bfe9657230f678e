"""The bank's currents: signs, order, symmetry, and the same bits again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cosim.circuit.column import ColumnBench
from cosim.errors import MeasuredWorseError
from cosim.fast.bank import STATES, Bank, measure_bank
from cosim.spice.engine import Engine


def test_a_pulled_line_loses_current(bank: Bank) -> None:
    for state, (product, _) in enumerate(STATES):
        for line in (0, 1):
            current_a = bank.current_a[state, line].mean(axis=0)
            if product == (-1, 1)[line]:
                assert 4e-6 < current_a[-1, -1] < 20e-6
                assert (np.diff(current_a[-1]) > 0).all(), "more at a higher line"
                assert (np.diff(current_a[:, -1]) > 0).all(), "more at a higher word line"
            else:
                assert abs(current_a[:, bank.voltage_v > 0.5]).max() < 2e-8


def test_currents_reach_the_ground(bank: Bank) -> None:
    """A line is pulled to within millivolts of it at FF, and the other side of a cell feeds it there."""
    assert bank.voltage_v[0] < 0
    pulled_a = bank.current_a[0, 0].mean(axis=0)[-1]
    assert abs(np.interp(0.0, bank.voltage_v, pulled_a)) < 0.01 * pulled_a.max()
    other_a = bank.current_a[0, 1].mean(axis=0)[-1]
    assert other_a[0] < other_a[8] < 0, "the other side of a cell feeds a line near the ground"


def test_mirrored_states_have_mirrored_currents(bank: Bank) -> None:
    """The 8T cell is its own mirror image; the states differ in their draws."""
    four = [bank.current_a[state, line, :, -1, -1] for state, line in ((0, 0), (1, 0), (4, 1), (5, 1))]
    means, sigmas = [values.mean() for values in four], [values.std() for values in four]
    # Sobol points of 96 cells: means within 2 %, sigmas within 10 %.
    np.testing.assert_allclose(means, np.mean(means), rtol=0.02)
    np.testing.assert_allclose(sigmas, np.mean(sigmas), rtol=0.1)


def test_rows_that_are_off_do_not_follow_the_word_line(bank: Bank) -> None:
    off = bank.current_a[2:4]
    assert (off == off[:, :, :, :1]).all()


def test_same_seed_same_bits(bench: ColumnBench, engine: Engine) -> None:
    first, again = (measure_bank(bench, engine, seed=5, cells=4) for _ in range(2))
    assert first.current_a.tobytes() == again.current_a.tobytes()
    assert (measure_bank(bench, engine, seed=6, cells=4).shift_v != first.shift_v).any()


def test_cells_that_flip_are_refused(bench: ColumnBench, engine: Engine) -> None:
    with pytest.raises(MeasuredWorseError, match="flipped"):
        measure_bank(dataclasses.replace(bench, word_line_v=1.0), engine, seed=5, cells=4)
