"""What one column of one sub-array is set up with: its bias, its timing and when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cosim.circuit.cell import Cell
from cosim.circuit.corner import Corner
from cosim.circuit.process import Process
from cosim.errors import InputError

START_S = 10e-12
"""When the word line begins to rise; in a charge-sharing column, when its phases begin."""


@dataclass(frozen=True, slots=True)
class ColumnBench:
    """One column of one sub-array, read once.

    Args:
        cell: The bitcell.
        process: Its process.
        corner: Process corner, supply and temperature.
        rows: Rows of the column, at least 1.
        word_line_v: Word-line voltage of a selected row, in volts; in a charge-sharing column its swing.
        pulse_s: In seconds, at least one edge. `discharge`: the word-line pulse between the half-way points of its
            edges. `static` and `charge-share`: from the half-way point of the last edge to the read.
        c_bit_line_f: Capacitance on each bit line beside the transistors' own, in farads.
        time_step_s: The longest time step, in seconds.
        bypass: Whether ngspice may skip transistors whose voltages hardly changed.
        rest_level: Charge-sharing columns: where all word lines rest during the reset and in rows that are off, in
            units of word_line_v; 0.5 makes an off row count nothing, 0 as a product of -1. The contract's `[drive]`
            for input 0 where it is not given.

    Raises:
        InputError: A value is out of its range.
    """

    cell: Cell
    process: Process
    corner: Corner
    rows: int
    word_line_v: float
    pulse_s: float
    c_bit_line_f: float
    time_step_s: float = 20e-12
    bypass: bool = False
    rest_level: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of their range."""
        for name in ("rows", "word_line_v", "pulse_s", "c_bit_line_f"):
            _check_range(self, name, float(getattr(self, name)))
        _check_range(self, "vdd_v", self.corner.vdd_v)
        if not 0 < self.time_step_s <= self.pulse_s:
            raise InputError(f"time_step_s must be positive and at most the pulse, got {self.time_step_s:g}")
        if self.pulse_s < self.cell.defaults.edge_s:
            raise InputError(f"pulse_s must be at least one edge, {self.cell.defaults.edge_s:g} s")
        if self.rest_level is not None and (self.cell.phases is None or not 0 <= self.rest_level <= 1):
            raise InputError(f"rest_level {self.rest_level:g}: expected 0..1, in a charge-sharing column")

    @property
    def sense_time_s(self) -> float:
        """When the lines are read, in seconds.

        `discharge`: after the falling edge and the cell's settling time. `static`: pulse_s after the word line's
        rise. `charge-share`: pulse_s after the last edge of the phases.
        """
        timing, phases = self.cell.defaults, self.cell.phases
        if phases is not None:
            return START_S + phases.last_edge_s + timing.edge_s / 2 + self.pulse_s
        if self.cell.sensing == "static":
            return START_S + timing.edge_s / 2 + self.pulse_s
        return START_S + self.pulse_s + timing.edge_s + timing.settle_s


def column_bench(cell: Cell, process: Process, corner: Corner | None = None, **changes: Any) -> ColumnBench:
    """A bench with the cell's defaults for everything that is not given.

    Args:
        cell: The bitcell.
        process: Its process.
        corner: tt, the cell's supply and 27 C where it is not given.
        changes: Fields of ColumnBench.

    Raises:
        InputError: A value is out of its range.
    """
    defaults = cell.defaults
    fields: dict[str, Any] = {
        "rows": defaults.rows,
        "word_line_v": defaults.word_line_v,
        "pulse_s": defaults.pulse_s,
        "c_bit_line_f": defaults.c_bit_line_f,
    }
    return ColumnBench(cell, process, corner or Corner("tt", defaults.vdd_v, 27.0), **(fields | changes))


def _check_range(bench: ColumnBench, name: str, value: float) -> None:
    span = getattr(bench.cell.ranges, name)
    if value <= 0 or (span is not None and not span[0] <= value <= span[1]):
        expected = f"{span[0]:g}..{span[1]:g}" if span else "a positive value"
        raise InputError(f"{name}: expected {expected}, got {value:g}", hint=f"the range in {bench.cell.path}")
