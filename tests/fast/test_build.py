"""The fast column against the full one, and what happens where it cannot stand for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cosim import hdf5
from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench
from cosim.circuit.process import load_process
from cosim.errors import InputError
from cosim.fast.build import build_fast_column, simulate
from cosim.fast.check import check
from cosim.fast.discharge import DischargeColumn
from cosim.fast.files import from_content, load_fast_column, save_fast_column, to_content
from cosim.spice.engine import Engine


def test_agrees_with_the_full_column(fast: DischargeColumn, bench: ColumnBench, engine: Engine) -> None:
    # A column of 8 rows averages the surface's error over fewer cells than one of 64 (bound 0.1 mV).
    result = check(fast, bench, engine, draws=6, counts=(0, 2, 4, 6, 8), bound_v=0.3e-3)
    assert result.passed, (result.bias_v, result.rms_v)
    assert (result.usable == 1).all()
    assert (result.volts_a_count[:, 2] > 0.05).all()


def test_rows_that_are_off(fast: DischargeColumn, bench: ColumnBench, engine: Engine) -> None:
    columns = simulate(bench, engine, [(2, 3), (0, 4), (5, 0), (1, 1)], seed=77, marks_s=fast.waveform.marks_s)
    error_v = fast.trace(columns.products, columns.weights, columns.vth_shift_v) - columns.voltage_v
    assert abs(error_v[:, :, -1]).max() < 0.4e-3


def test_says_so_where_it_is_wrong(fast: DischargeColumn, bench: ColumnBench, engine: Engine) -> None:
    heavier = dataclasses.replace(fast, waveform=dataclasses.replace(fast.waveform, c_bit_line_f=13.3e-15))
    result = check(heavier, bench, engine, draws=3, counts=(0, 4, 8))
    assert not result.passed
    assert result.within[0, 0], "a line that nothing pulls does not depend on its capacitance"
    assert result.bias_v[2, 0] > 1e-3


def test_a_flipped_cell_is_never_averaged_in(fast: DischargeColumn, bench: ColumnBench, engine: Engine) -> None:
    result = check(fast, dataclasses.replace(bench, word_line_v=1.0), engine, draws=2, counts=(3, 5))
    assert not result.passed
    assert (result.usable == 0).all()
    assert np.isnan(result.bias_v).all()


def test_refuses_other_sensing_styles(bench: ColumnBench, engine: Engine) -> None:
    other = dataclasses.replace(bench, cell=dataclasses.replace(bench.cell, sensing="none_of_ours"))
    with pytest.raises(InputError, match="none_of_ours"):
        build_fast_column(other, engine)


def test_file_gives_the_same_bits(fast: DischargeColumn, tmp_path: Path) -> None:
    save_fast_column(fast, tmp_path / "fast.h5")
    again = load_fast_column(tmp_path / "fast.h5")
    products = np.where(np.arange(8) < 3, -1, 1).astype(np.int8)[None]
    draw = products, np.ones_like(products), np.full((1, 8, 8), 0.01)
    assert again.read(*draw).tobytes() == fast.read(*draw).tobytes()
    assert again.about == fast.about


def test_incomplete_content_is_refused(fast: DischargeColumn) -> None:
    content = to_content(fast)
    less = {name: data for name, data in content.datasets.items() if name != "fast_basis_a"}
    with pytest.raises(InputError, match="fast_basis_a"):
        from_content(hdf5.Content(content.attributes, less))


def test_a_cell_of_inputs_0_and_1(engine: Engine) -> None:
    """6T: a product fixes the weight, so two of the six states are impossible and refused."""
    bench = column_bench(load_cell("hbnn_6t"), load_process("generic65"), rows=8, c_bit_line_f=13e-15)
    fast = build_fast_column(bench, engine, seed=2, cells=64)
    assert (fast.surface.features.min(axis=1) == 0).tolist() == [False, True, False, False, True, False]
    # Fewer cells than by default, and a column of 8 rows averages over fewer than one of 64.
    result = check(fast, bench, engine, draws=3, counts=(0, 4, 8), bound_v=0.5e-3)
    assert result.passed, (result.bias_v, result.rms_v)
    row = np.ones((1, 8), np.int8)
    with pytest.raises(InputError, match=r"-1 with weight \+1"):
        fast.read(-row, row, np.zeros((1, 8, len(bench.cell.devices))))
