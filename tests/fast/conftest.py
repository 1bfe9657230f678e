"""A fast column of eight rows that takes some seconds: few cells, and lines as light as eight rows need."""

from __future__ import annotations

import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench
from cosim.circuit.process import load_process
from cosim.fast.bank import Bank, measure_bank
from cosim.fast.build import build_from_bank
from cosim.fast.discharge import DischargeColumn
from cosim.spice.engine import Engine


@pytest.fixture(scope="session")
def bench() -> ColumnBench:
    # An eighth of the rows and about an eighth of the capacitance: the lines fall nearly as far as in a full column.
    return column_bench(load_cell("xnor_8t"), load_process("generic65"), rows=8, c_bit_line_f=13e-15)


@pytest.fixture(scope="session")
def bank(bench: ColumnBench, engine: Engine) -> Bank:
    return measure_bank(bench, engine, seed=3, cells=96)


@pytest.fixture(scope="session")
def fast(bench: ColumnBench, engine: Engine, bank: Bank) -> DischargeColumn:
    return build_from_bank(bench, engine, bank, seed=3)
