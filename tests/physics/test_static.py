"""Static sensing: each line settles between its load and the cells that pull it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.deck import Deck
from cosim.circuit.line_device import LineDevice
from cosim.circuit.process import load_process

RunDeck = Callable[[Deck], np.ndarray]
ROWS, OHM = 64, 600.0
NAMES = ("xnor_8t_static", "hbnn_6t_static")


def loaded(name: str) -> ColumnBench:
    return column_bench(load_cell(name), load_process("generic65"), rows=ROWS)


def with_resistors(name: str) -> ColumnBench:
    load = LineDevice("line_resistor", {"line": "line", "vdd": "supply"}, {"r": OHM})
    bench = loaded(name)
    cell = dataclasses.replace(bench.cell, load=load, line_ports={"line_resistor": ("line", "vdd")})
    return dataclasses.replace(bench, cell=cell)


def read(run_deck: RunDeck, bench: ColumnBench, plus: int, minus: int, shifts: np.ndarray | float = 0.0) -> np.ndarray:
    products = np.repeat(np.array([1, -1, 0], np.int8), (plus, minus, ROWS - plus - minus))
    weights = np.where(products < 0, -1, 1).astype(np.int8)
    given = np.zeros((ROWS, len(bench.cell.devices))) + shifts
    values = run_deck(column_deck(bench, products, weights, given))
    assert not flipped_rows(bench, weights, values).any()
    return values[:2, 0]


@pytest.mark.parametrize("name", NAMES)
def test_resistors_give_the_known_levels(run_deck: RunDeck, name: str) -> None:
    """reference, 600 ohm, where a cell carries 8.1 uA; generic65's carries 8.9."""
    bench = with_resistors(name)
    volts = [read(run_deck, bench, k, ROWS - k)[0] for k in (0, 16, 32, 48, 64)]
    known = np.array([0.722, 0.786, 0.853, 0.924, 1.0])
    np.testing.assert_allclose(1 - np.array(volts), (1 - known) * 8.9 / 8.1, atol=8e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_falls_by_its_current_times_the_resistance(run_deck: RunDeck, name: str) -> None:
    """Ohm, with a cell's current measured on a held line; two rows fall twice as far but for the drain's slope."""
    held = column_bench(load_cell("dac_6t"), load_process("generic65"), rows=ROWS)
    assert held.cell.clamp is not None
    assert held.cell.row_dac is not None
    at_word_line = dataclasses.replace(held.cell, row_dac=dataclasses.replace(held.cell.row_dac, drive="voltage"))
    output_v = read(run_deck, dataclasses.replace(held, cell=at_word_line), 0, 1)[0]
    current_a = (1 - output_v) / held.cell.clamp.transimpedance_ohm
    assert current_a == pytest.approx(8.9e-6, rel=0.02)
    bench = with_resistors(name)
    one, two = (1 - read(run_deck, bench, 0, n)[0] for n in (1, 2))
    assert one == pytest.approx(OHM * current_a, rel=0.01)
    assert two == pytest.approx(2 * one, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_read_is_of_a_settled_line(run_deck: RunDeck, name: str) -> None:
    """The time constant is 0.06 ns (600 ohm, 92 fF); twice the time moves nothing, and a tenth of it does."""
    bench = loaded(name)
    settled = read(run_deck, bench, 16, 48)
    later = read(run_deck, dataclasses.replace(bench, pulse_s=2e-9), 16, 48)
    np.testing.assert_allclose(later, settled, atol=2e-5)
    early = read(run_deck, dataclasses.replace(bench, pulse_s=1e-10), 16, 48)
    assert early[0] > settled[0] + 5e-3


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_monotone_mirror_each_other_and_rest_at_the_supply(run_deck: RunDeck, name: str) -> None:
    bench = loaded(name)
    volts = np.array([read(run_deck, bench, k, ROWS - k) for k in (0, 16, 32, 48, 64)])
    assert (np.diff(volts[:, 0]) > 0.04).all()
    np.testing.assert_allclose(volts[:, 1], volts[::-1, 0], atol=2e-5)
    np.testing.assert_allclose(read(run_deck, bench, 0, 0), 1.0, atol=1e-3)
