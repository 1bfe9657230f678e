"""The fast column of discharged lines: pre-charge, a pulse of the word line, a read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int8
from scipy.interpolate import CubicSpline

from cosim.circuit.column import START_S, ColumnBench
from cosim.fast.column import check_arrays, counts_of, impossible_states
from cosim.fast.electrical import MIDDLE, Electrical
from cosim.fast.surface import Surface

EDGE_STEPS, TOP_STEPS = 6, 5
"""Runge-Kutta steps of a word-line edge, and of each half of the pulse between its edges."""

_FINE = 501


@dataclass(frozen=True, slots=True)
class Waveform:
    """When the word line rises and falls, in seconds, and what a column starts from.

    Args:
        rows: Rows of the column.
        vdd_v: Supply, in volts.
        start_v: Bit-line voltages before the read.
        c_bit_line_f: Capacitance on each line beside the cells', in farads.
        word_line_v: Peak of the word line, in volts.
        start_s: When the word line begins to rise.
        edge_s: How long it rises and falls.
        pulse_s: From half-way up to half-way down.
        sense_time_s: When the lines are read.
        lines: Lines of a column, one or two.
    """

    rows: int
    vdd_v: float
    start_v: tuple[float, float]
    c_bit_line_f: float
    word_line_v: float
    start_s: float
    edge_s: float
    pulse_s: float
    sense_time_s: float
    lines: int = 2

    @classmethod
    def of(cls, bench: ColumnBench) -> Waveform:
        """The bench's."""
        lines = bench.cell.ports.bit_lines
        first, second = (bench.cell.precharge[name] * bench.corner.vdd_v for name in (lines[0], lines[-1]))
        edge_s = bench.cell.defaults.edge_s
        timing = (START_S, edge_s, bench.pulse_s, bench.sense_time_s)
        loads = (bench.c_bit_line_f, bench.word_line_v)
        return cls(bench.rows, bench.corner.vdd_v, (first, second), *loads, *timing, len(lines))

    @property
    def marks_s(self) -> tuple[float, ...]:
        """Ends of the rise, the pulse's first and second half, the fall and the read, in seconds."""
        up = self.start_s + self.edge_s
        down = self.start_s + self.pulse_s
        return (up, (up + down) / 2, down, down + self.edge_s, self.sense_time_s)


# No slots: the tables are made once, when they are first needed.
@dataclass(frozen=True, eq=False)
class DischargeColumn:
    """A discharging column that is read without a simulator: dQ(V, word line)/dt = -sum of its cells' currents.

    Args:
        surface: Cells' coefficients.
        waveform: The read.
        electrical: Capacitances.
        about: Where it comes from: cell, process, corner, seed, and figures of the fit.
    """

    surface: Surface
    waveform: Waveform
    electrical: Electrical
    about: dict[str, str | int | float]

    def read(
        self,
        products: Int8[np.ndarray, "sample row"],
        weights: Int8[np.ndarray, "sample row"],
        vth_shift_v: Float[np.ndarray, "sample row device"],
    ) -> Float[np.ndarray, "sample line"]:
        """Both bit lines of every column at the read, in volts; a pure function, the same bits in any batch.

        The second is NaN for a cell with one line.

        Args:
            products: -1 pulls the first line, +1 the second, and a row of 0 is off.
            weights: What each row stores, -1 or +1.
            vth_shift_v: Threshold shifts as in `column_deck`, in volts.

        Raises:
            InputError: An array has the wrong shape or values.
        """
        return self.trace(products, weights, vth_shift_v)[:, :, -1]

    def trace(
        self,
        products: Int8[np.ndarray, "sample row"],
        weights: Int8[np.ndarray, "sample row"],
        vth_shift_v: Float[np.ndarray, "sample row device"],
    ) -> Float[np.ndarray, "sample line mark"]:
        """The lines at each of `waveform.marks_s`, in volts; the last is the read."""
        missing = impossible_states(self.surface)
        check_arrays(products, weights, vth_shift_v, self.waveform.rows, self.surface.scale_v.size, missing)
        coefficient = self.surface.coefficients(products, weights, vth_shift_v)
        found = self.voltages(coefficient, counts_of(products), self.electrical)
        found[:, self.waveform.lines :] = np.nan
        return found

    def voltages(
        self,
        coefficient: Float[np.ndarray, "sample line component"],
        counts: Float[np.ndarray, "sample line kind"],
        electrical: Electrical,
    ) -> Float[np.ndarray, "sample line mark"]:
        """The lines at each mark, from the coefficients and the rows that pull, do not pull, and are off."""
        from cosim.fast import kernels

        wave = self.waveform
        charge = electrical.charge(counts, wave.rows, wave.c_bit_line_f)
        tables, first_v, step_v = self.tables
        plan, marks = self.plan
        middle_v = MIDDLE * wave.vdd_v
        every = kernels.integrate(coefficient, charge, middle_v, np.array(wave.start_v), tables, first_v, step_v, plan)
        return every[:, :, marks]

    @cached_property
    def tables(self) -> tuple[np.ndarray, float, float]:
        """Currents of the components at every level of the plan, (table, voltage, component), first volt, step."""
        s = self.surface
        levels = np.linspace(0.0, 1.0, 2 * EDGE_STEPS + 1)
        fine_v = np.linspace(s.voltage_v[0], s.voltage_v[-1], _FINE)
        at_level = CubicSpline(s.level, s.basis_a, axis=1)(levels)
        fine = CubicSpline(s.voltage_v, at_level, axis=2)(fine_v)
        return np.ascontiguousarray(fine.transpose(1, 2, 0)), float(fine_v[0]), float(fine_v[1] - fine_v[0])

    @cached_property
    def plan(self) -> tuple[np.ndarray, list[int]]:
        """The steps as `kernels.integrate` takes them, and the last step before each mark."""
        wave, top = self.waveform, 2 * EDGE_STEPS
        rise, middle, fall, down, end = wave.marks_s
        edge = [2 * i for i in range(EDGE_STEPS)]
        phases = [
            [_step(wave, wave.start_s, 0, 0)],
            [_step(wave, wave.edge_s / EDGE_STEPS, i, i + 2) for i in edge],
            [_step(wave, (middle - rise) / TOP_STEPS, top, top)] * TOP_STEPS,
            [_step(wave, (fall - middle) / TOP_STEPS, top, top)] * TOP_STEPS,
            [_step(wave, wave.edge_s / EDGE_STEPS, top - i, top - i - 2) for i in edge],
            [_step(wave, end - down, 0, 0)],
        ]
        ends = np.cumsum([len(phase) for phase in phases])[1:] - 1
        return np.array([step for phase in phases for step in phase]), ends.tolist()


def _step(wave: Waveform, seconds: float, first: int, last: int) -> list[float]:
    """One step from one table to another, as `kernels.integrate` takes it."""
    tables = (first, (first + last) // 2, last)
    volts = [wave.word_line_v * table / (2 * EDGE_STEPS) for table in tables]
    return [seconds, (volts[2] - volts[0]) / seconds, *volts, *tables]
