"""The capacitive column is a capacitive divider: gain, offset and capacitor mismatch against the closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from cosim.circuit.capacitor import capacitor_sigma
from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process

RunDeck = Callable[[Deck], np.ndarray]
SWING_V, C_CELL_F, C_WIRE_F, C_LINE_F = 0.4, 2e-15, 0.15e-15, 5e-15


def column(rows: int, rest_level: float | None = None) -> ColumnBench:
    return column_bench(load_cell("cap_8t1c"), load_process("generic65"), rows=rows, rest_level=rest_level)


def read(
    run_deck: RunDeck, bench: ColumnBench, plus: int, minus: int, shifts: np.ndarray | float = 0.0, seed: int = 1
) -> float:
    """The line with `plus` rows at +1, then `minus` at -1, the others off; random weights."""
    products = np.repeat(np.array([1, -1, 0], np.int8), (plus, minus, bench.rows - plus - minus))
    weights = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), bench.rows)
    values = run_deck(column_deck(bench, products, weights, np.zeros((bench.rows, 9)) + shifts))
    assert not flipped_rows(bench, weights, values).any()
    return float(values[0, 0])


@pytest.mark.parametrize(("rows", "step_mv"), [(16, None), (64, 5.59), (256, 1.44)])
def test_a_step_is_the_dividers(run_deck: RunDeck, rows: int, step_mv: float | None) -> None:
    """VDR C / (N C + C_p), C_p of wire, line and the open switch: 63 nm a row of about 0.7 fF/um."""
    bench = column(rows)
    step_v = (read(run_deck, bench, rows, 0) - read(run_deck, bench, 0, rows)) / rows
    c_total_f = rows * (C_CELL_F + C_WIRE_F + 0.063 * 0.7e-15) + C_LINE_F
    assert step_v == pytest.approx(SWING_V * C_CELL_F / c_total_f, rel=3e-3)
    # The figures of reference, with a smaller switch.
    assert step_mv is None or 1e3 * step_v == pytest.approx(step_mv, rel=0.02)


@pytest.mark.parametrize("rows", [64, 256])
def test_the_line_is_linear_in_the_count(run_deck: RunDeck, rows: int) -> None:
    """reference: 0.002 count; 0.01 leaves room for ngspice's 10 uV (0.007 count of 256 rows)."""
    bench = column(rows)
    counts = np.array([0, rows // 8, rows // 2, rows])
    volts = np.array([read(run_deck, bench, k, rows - k) for k in counts])
    step_v = (volts[-1] - volts[0]) / rows
    np.testing.assert_allclose((volts - volts[0]) / step_v, counts, atol=0.01)


def test_a_row_that_is_off_adds_nothing_when_reset_half_way_and_reads_as_minus_one_when_reset_low(
    run_deck: RunDeck,
) -> None:
    bipolar, unipolar = column(64), column(64, rest_level=0.0)
    count_v = 5.503e-3
    zero = read(run_deck, bipolar, 0, 0)
    assert abs(read(run_deck, bipolar, 16, 16) - zero) < 0.01 * count_v
    assert abs(read(run_deck, unipolar, 16, 0) - read(run_deck, unipolar, 16, 48)) < 0.01 * count_v
    # One row more at +1 is half a count from an off row in the one, a whole one in the other.
    assert read(run_deck, bipolar, 1, 0) - zero == pytest.approx(count_v / 2, rel=0.01)
    one_v = read(run_deck, unipolar, 1, 0) - read(run_deck, unipolar, 0, 0)
    assert one_v == pytest.approx(count_v, rel=0.01)


def test_capacitor_mismatch_is_the_dividers(run_deck: RunDeck) -> None:
    """V = v_0 + sum C_i dV_i / (sum C_i + C_p), v_0 and C_p from the nominal column, the same draws in both.

    reference: within 0.022 mV rms. Here with capacitors four times as bad as the process says.
    """
    rows, rng = 64, np.random.default_rng(5)
    bench = column(rows)
    products = np.repeat([1, -1], rows // 2)
    top, zero = read(run_deck, bench, rows, 0), read(run_deck, bench, 32, 32)
    c_p = rows * C_CELL_F * (SWING_V / 2 / (top - zero) - 1)
    for _ in range(4):
        shifts = np.zeros((rows, 9))
        shifts[:, 8] = 4 * bench.cell.vth_sigmas(bench.process)[8] * rng.normal(size=rows)
        each = C_CELL_F * (1 + shifts[:, 8])
        expected = zero + (each * products).sum() * SWING_V / 2 / (each.sum() + c_p)
        assert abs(expected - zero) > 1e-4
        assert read(run_deck, bench, 32, 32, shifts) == pytest.approx(expected, abs=2.2e-5)


def test_thresholds_matter_only_through_settling(run_deck: RunDeck) -> None:
    bench = column(64)
    sigmas = bench.cell.vth_sigmas(bench.process) * (np.arange(9) < 8)
    shifts = np.random.default_rng(2).normal(size=(64, 9)) * sigmas
    assert abs(read(run_deck, bench, 32, 32, shifts) - read(run_deck, bench, 32, 32)) < 0.02 * 5.6e-3
    early = dataclasses.replace(bench, pulse_s=20e-12, time_step_s=2e-12)
    assert abs(read(run_deck, early, 32, 32, shifts) - read(run_deck, early, 32, 32)) > 0.02 * 5.6e-3


def test_the_reset_switch_leaves_its_charge_and_less_of_it_when_it_is_small(run_deck: RunDeck) -> None:
    """Its widths go with the rows, so the millivolts stay; half the width, half the charge."""
    bench = column(64)
    assert bench.cell.reset is not None
    sizes = {name: value / 2 if name != "l" else value for name, value in bench.cell.reset.parameters.items()}
    small = dataclasses.replace(bench.cell, reset=dataclasses.replace(bench.cell.reset, parameters=sizes))
    injected = read(run_deck, bench, 0, 0) - 0.5
    assert 1e-3 < injected < 3e-3
    assert read(run_deck, column(256), 0, 0) - 0.5 == pytest.approx(injected, rel=0.05)
    halved = read(run_deck, dataclasses.replace(bench, cell=small), 0, 0) - 0.5
    assert halved == pytest.approx(injected / 2, rel=0.1)


def test_a_capacitors_sigma_follows_its_area() -> None:
    cell, process = load_cell("cap_8t1c"), load_process("generic65")
    sigmas = cell.vth_sigmas(process)
    assert sigmas.shape == (9,)
    assert sigmas[8] == pytest.approx(1e-8 / np.sqrt(2e-15 / 1.5e-3))
    larger = dataclasses.replace(cell, parameters=dict(cell.parameters) | {"c_cell": 8e-15})
    assert larger.vth_sigmas(process)[8] == pytest.approx(sigmas[8] / 2)
    with pytest.raises(ValueError, match="positive"):
        capacitor_sigma(1e-8, 1.5e-3, 0.0)
