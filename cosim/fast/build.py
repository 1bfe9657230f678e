"""Builds the fast column of a bench, by the cell's sensing style."""

from __future__ import annotations

from collections.abc import Callable

from cosim.circuit.column import ColumnBench
from cosim.errors import InputError
from cosim.fast.bank import CELLS
from cosim.fast.build_charge_share import build_charge_share
from cosim.fast.build_discharge import build_discharge, build_from_bank
from cosim.fast.build_static import build_static
from cosim.fast.column import FastColumn
from cosim.fast.draws import Columns, simulate
from cosim.spice.engine import Engine

__all__ = ["Columns", "build_fast_column", "build_from_bank", "simulate"]

_STYLES: dict[str, Callable[..., FastColumn]] = {
    "discharge": build_discharge,
    "static": build_static,
    "charge-share": build_charge_share,
}


def build_fast_column(bench: ColumnBench, engine: Engine, *, seed: int = 0, cells: int = CELLS) -> FastColumn:
    """A fast column of a bench: about ten seconds of ngspice.

    It is as good as `cosim.fast.check.check` says, which simulates other draws.

    Args:
        bench: The column; with a row DAC, every row at its full current.
        engine: What runs the decks.
        seed: Of the bank and of the columns that are fitted to.
        cells: Of the bank, in each state; charge-sharing columns need no bank.

    Raises:
        InputError: The fast column knows nothing of the cell's sensing style.
        MeasuredWorseError: The bank or the full columns gave no values, or lines that must settle had not: use the
            full column here.
    """
    build = _STYLES.get(bench.cell.sensing)
    if build is None:
        known = ", ".join(_STYLES)
        raise InputError(f"no fast column for sensing {bench.cell.sensing!r} of {bench.cell.name}", hint=f"for {known}")
    return build(bench, engine, seed=seed, cells=cells)
