from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.corner import Corner
from cosim.circuit.process import load_process
from cosim.errors import InputError

ROWS = 4
PRODUCTS = np.array([1, -1, 0, -1], np.int8)
WEIGHTS = np.array([1, 1, -1, -1], np.int8)
NO_SHIFT = np.zeros((ROWS, 8))


@pytest.fixture(scope="module")
def bench() -> ColumnBench:
    return column_bench(load_cell("xnor_8t"), load_process("generic65"), rows=ROWS)


def instances(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if re.match(r"x\d", line)]


def test_the_deck_is_complete_and_names_its_probes(bench: ColumnBench) -> None:
    deck = column_deck(bench, PRODUCTS, WEIGHTS, NO_SHIFT)
    assert deck.text.endswith(".end\n")
    assert ".include" not in deck.text
    assert ".lib" not in deck.text
    assert deck.probes == ("bl", "blb", "q_0", "qb_0", "q_1", "qb_1", "q_2", "qb_2", "q_3", "qb_3")
    saved = re.findall(r"\.save v\((\w+)\)", deck.text)
    assert tuple(saved) == deck.probes
    assert deck.times_s == (bench.sense_time_s,)
    assert bench.sense_time_s == pytest.approx(200e-12)


def test_the_word_line_follows_product_times_weight(bench: ColumnBench) -> None:
    rows = instances(column_deck(bench, PRODUCTS, WEIGHTS, NO_SHIFT).text)
    on, off = "drive_0", "0"
    # Inputs are +1, -1, 0 and +1: WL, WLB, neither, WL.
    assert [row[3:5] for row in rows] == [[on, off], [off, on], [off, off], [on, off]]


def test_storage_nodes_hold_the_weights(bench: ColumnBench) -> None:
    text = column_deck(bench, PRODUCTS, WEIGHTS, NO_SHIFT).text
    assert ".ic v(q_0)=1\n.ic v(qb_0)=0\n" in text
    assert ".ic v(q_3)=0\n.ic v(qb_3)=1\n" in text


def test_each_shift_reaches_its_own_transistor(bench: ColumnBench) -> None:
    shifts = np.arange(ROWS * 8).reshape(ROWS, 8) * 1e-3
    rows = instances(column_deck(bench, PRODUCTS, WEIGHTS, shifts).text)
    assert rows[1][-8:] == [
        *("dvt_pul=0.008", "dvt_pur=0.009", "dvt_pdl=0.01", "dvt_pdr=0.011"),
        *("dvt_pgl=0.012", "dvt_pgr=0.013", "dvt_pxl=0.014", "dvt_pxr=0.015"),
    ]


def test_the_corner_is_in_the_deck(bench: ColumnBench) -> None:
    cold = dataclasses.replace(bench, corner=Corner("ss", 0.9, -40.0))
    text = column_deck(cold, PRODUCTS, WEIGHTS, NO_SHIFT).text
    assert "temp=-40" in text
    assert "vdd vdd 0 0.9" in text
    assert load_process("generic65").models["ss"].strip() in text


def test_sizes_of_the_contract_reach_the_subcircuit(bench: ColumnBench) -> None:
    wide = dataclasses.replace(bench.cell, parameters=dict(bench.cell.parameters) | {"w_pass": 2.4e-7})
    text = column_deck(dataclasses.replace(bench, cell=wide), PRODUCTS, WEIGHTS, NO_SHIFT).text
    assert "w_pass=2.4e-07" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 0},
        {"rows": 4096},
        {"word_line_v": 2.0},
        {"pulse_s": 5e-12},
        {"c_bit_line_f": -1e-15},
        {"time_step_s": 0.0},
        {"corner": Corner("tt", 3.0, 27.0)},
    ],
)
def test_values_out_of_range_are_refused(bench: ColumnBench, changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(bench, **changes)


def test_an_unknown_corner_is_refused(bench: ColumnBench) -> None:
    with pytest.raises(InputError, match="no corner 'tf'"):
        column_deck(dataclasses.replace(bench, corner=Corner("tf")), PRODUCTS, WEIGHTS, NO_SHIFT)


def test_wrong_arrays_are_refused(bench: ColumnBench) -> None:
    with pytest.raises(InputError, match="expected products and weights"):
        column_deck(bench, PRODUCTS[:3], WEIGHTS[:3], NO_SHIFT[:3])
    with pytest.raises(InputError, match="products must be"):
        column_deck(bench, PRODUCTS * 2, WEIGHTS, NO_SHIFT)
    with pytest.raises(InputError, match="products must be"):
        column_deck(bench, PRODUCTS, WEIGHTS * 0, NO_SHIFT)
    with pytest.raises(InputError, match="finite"):
        column_deck(bench, PRODUCTS, WEIGHTS, NO_SHIFT + np.nan)


def test_a_row_is_flipped_when_either_node_is_on_the_wrong_side(bench: ColumnBench) -> None:
    held = np.array([[0.3], [0.4], [1.0], [0.1], [1.0], [0.0], [0.0], [1.0], [0.0], [1.0]])
    assert not flipped_rows(bench, WEIGHTS, held).any()
    flipped = held.copy()
    flipped[4] = 0.49
    assert flipped_rows(bench, WEIGHTS, flipped).tolist() == [False, True, False, False]
