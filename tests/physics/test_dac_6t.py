"""The 6T column with a row DAC: currents at a held line add, and follow the DAC's share."""

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
ROWS = 16
FULL_A = 8e-6
SHARES = np.array([0.125, 0.25, 0.5, 0.75, 1.0])


def column(resistance_ohm: float = 20.0, drive: str = "replica") -> ColumnBench:
    bench = column_bench(load_cell("dac_6t"), load_process("generic65"), rows=ROWS)
    assert bench.cell.clamp is not None
    assert bench.cell.row_dac is not None
    clamp = dataclasses.replace(bench.cell.clamp, resistance_ohm=resistance_ohm)
    dac = dataclasses.replace(bench.cell.row_dac, drive=drive)
    return dataclasses.replace(bench, cell=dataclasses.replace(bench.cell, clamp=clamp, row_dac=dac))


def currents(
    run_deck: RunDeck,
    bench: ColumnBench,
    products: np.ndarray,
    share: np.ndarray | None = None,
    shifts: np.ndarray | float = 0.0,
) -> np.ndarray:
    """What each line gives, in amperes, from the read-outs; rows that are off leak as they do."""
    weights = np.where(products < 0, -1, 1).astype(np.int8)
    values = run_deck(column_deck(bench, products.astype(np.int8), weights, np.zeros((ROWS, 6)) + shifts, share))
    assert not flipped_rows(bench, weights, values).any()
    assert bench.cell.clamp is not None
    return (bench.cell.clamp.level * bench.corner.vdd_v - values[:2, 0]) / bench.cell.clamp.transimpedance_ohm


def one_row(product: int = -1) -> np.ndarray:
    return np.eye(1, ROWS, dtype=np.int8)[0] * product


def test_a_servod_replica_makes_the_current_proportional_to_the_share(run_deck: RunDeck) -> None:
    """reference: within 0.002 %, here 0.004 %. All rows on: no leakage is in the sum; the line is held by 1 mohm."""
    bench = column(1e-3)
    found = [currents(run_deck, bench, -np.ones(ROWS), np.full(ROWS, share))[0] for share in SHARES]
    np.testing.assert_allclose(found, ROWS * FULL_A * SHARES, rtol=6e-5)


def test_a_voltage_dac_is_far_from_proportional(run_deck: RunDeck) -> None:
    """Below its threshold the current falls far faster than the voltage: half of it gives 1.3 % of the current."""
    bench = column(1e-3, drive="voltage")
    full, half = (currents(run_deck, bench, -np.ones(ROWS), np.full(ROWS, s))[0] for s in (1.0, 0.5))
    assert half == pytest.approx(0.013 * full, rel=0.1)


def test_currents_at_a_held_line_add(run_deck: RunDeck) -> None:
    """reference: to a millionth; I_BL is the sum of the shares of the rows at -1, I_BLB of those at +1."""
    bench, rng = column(1e-3), np.random.default_rng(7)
    share = rng.choice(SHARES, ROWS)
    products = np.repeat([-1, 1], ROWS // 2)
    found = currents(run_deck, bench, products, share)
    each = {s: currents(run_deck, bench, -np.ones(ROWS), np.full(ROWS, s))[0] / ROWS for s in SHARES}
    expected = [sum(each[s] for s in share[products == sign]) for sign in (-1, 1)]
    # ngspice's reltol, with the servo's gain in between; the cells of the other line leak 3 pA each.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)


def test_a_clamps_resistance_costs_half_a_percent_at_ten_millivolts(run_deck: RunDeck) -> None:
    """20 ohm and 0.13 mA are 2.6 mV: 0.12 %. reference: 0.5 % at 64 rows with 35 ohm or less."""
    soft = currents(run_deck, column(20.0), -np.ones(ROWS))[0]
    assert 1 - soft / (ROWS * FULL_A) == pytest.approx(1.2e-3, rel=0.3)


def test_a_row_that_is_off_draws_nothing_but_leakage(run_deck: RunDeck) -> None:
    bench = column(1e-3)
    assert (currents(run_deck, bench, 0 * one_row()) < 1e-8).all()
    found = currents(run_deck, bench, one_row(+1), np.full(ROWS, 0.5))
    assert found[1] == pytest.approx(FULL_A / 2, rel=3e-3)
    assert found[0] < 1e-8


def test_mismatch_is_a_third_of_the_current_and_more_at_a_small_share(run_deck: RunDeck) -> None:
    """reference: 30 % at 8 uA, 62 % at 1 uA; here 34 and 68 %.

    The spread of 24 sums of 16 cells errs by 1 / sqrt(2 * 23) = 15 %: 50 % is three of those.
    """
    bench, rng = column(1e-3), np.random.default_rng(1)
    sigmas = bench.cell.vth_sigmas(bench.process)
    for share, relative in ((1.0, 0.34), (0.125, 0.68)):
        draws = rng.normal(size=(24, ROWS, 6)) * sigmas
        sums = [currents(run_deck, bench, -np.ones(ROWS), np.full(ROWS, share), draw)[0] for draw in draws]
        one_cell = np.std(sums, ddof=1) * np.sqrt(ROWS) / (ROWS * FULL_A * share)
        assert one_cell == pytest.approx(relative, rel=0.5)


def test_shares_need_a_dac_and_must_be_positive() -> None:
    bench = column()
    weights, products = -np.ones(ROWS, np.int8), -np.ones(ROWS, np.int8)
    for wrong in (np.zeros(ROWS), -np.ones(ROWS), np.full(ROWS, np.nan)):
        with pytest.raises(InputError, match="shares above 0"):
            column_deck(bench, products, weights, np.zeros((ROWS, 6)), wrong)
    other = column_bench(load_cell("hbnn_6t"), bench.process, rows=ROWS)
    with pytest.raises(InputError, match=r"no \[row_dac\]"):
        column_deck(other, products, weights, np.zeros((ROWS, 6)), np.full(ROWS, 0.5))
