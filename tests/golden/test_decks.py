"""The text of every cell's deck, without the model cards: a change in what is simulated shows here.

Where a change is wanted: `pytest tests/golden --regen-all`, look at the difference, and raise `campaign.points.FORMAT`
if old samples no longer stand for what the deck does.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_regressions.file_regression import FileRegressionFixture

from cosim.circuit.cell import load_cell
from cosim.circuit.column import column_bench, column_deck
from cosim.circuit.process import load_process
from cosim.resources import data_folder

CELLS = sorted(path.name for path in (data_folder("netlists") / "bitcells").iterdir() if path.is_dir())
ROWS = 4


@pytest.mark.parametrize("name", CELLS)
def test_a_cells_deck_is_the_one_that_was_reviewed(name: str, file_regression: FileRegressionFixture) -> None:
    cell, process = load_cell(name), load_process("generic65")
    bench = column_bench(cell, process, rows=ROWS)
    wanted = [(1, 1), (-1, 1), (0, 1), (-1, -1)]
    states = [next(((p, w) for w, _ in cell.states(p)[:: prefer or 1]), (-1, -1)) for p, prefer in wanted]
    products, weights = (np.array(values, np.int8) for values in zip(*states, strict=True))
    shifts = np.arange(ROWS * len(cell.devices)).reshape(ROWS, -1) * 1e-3
    text = column_deck(bench, products, weights, shifts).text
    models = process.models["tt"].strip()
    assert models in text
    file_regression.check(text.replace(models, "* (the model cards)"), extension=".cir")
