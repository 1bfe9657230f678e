"""The fast column of lines that settle: the cells' currents against what holds each line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int8
from scipy.interpolate import CubicSpline

from cosim.fast.column import check_arrays, impossible_states
from cosim.fast.surface import Surface

_FINE = 1001
_STEPS, _MOST_STEPS = 40, 1000


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """What holds the lines, and what is read of them.

    Args:
        rows: Rows of the column.
        lines: Lines of a column, one or two.
        current_a: What the load or the clamp gives each line, in amperes, on the surface's voltage axis.
        level_v: The read-out is this less transimpedance_ohm times the line's current, in volts.
        transimpedance_ohm: 0 where the line itself is read.
        start_v: The lines before the word line rises, in volts.
        time_s: From the half-way point of the word line's edge to the read.
        capacitance_f: Of a line, where it has not settled at the read; 0 where it has.
    """

    rows: int
    lines: int
    current_a: Float[np.ndarray, "line voltage"]
    level_v: float
    transimpedance_ohm: float
    start_v: tuple[float, float]
    time_s: float
    capacitance_f: float = 0.0


# No slots: the tables are made once, when they are first needed.
@dataclass(frozen=True, eq=False)
class StaticColumn:
    """A column whose lines settle: what holds a line gives the sum of its cells' currents.

    A line that is read before it has settled is followed in time: C dV/dt is what holds it less its cells' currents.

    Args:
        surface: Cells' coefficients, at the one word-line level.
        holder: What the currents are held against.
        about: Where it comes from, and figures of the comparison with a few full columns.
    """

    surface: Surface
    holder: Holder
    about: dict[str, str | int | float]

    def read(
        self,
        products: Int8[np.ndarray, "sample row"],
        weights: Int8[np.ndarray, "sample row"],
        vth_shift_v: Float[np.ndarray, "sample row device"],
    ) -> Float[np.ndarray, "sample line"]:
        """The read-out of both lines, in volts: as `cosim.fast.column.FastColumn.read`."""
        from cosim.fast import kernels

        holder = self.holder
        missing = impossible_states(self.surface)
        check_arrays(products, weights, vth_shift_v, holder.rows, self.surface.scale_v.size, missing)
        coefficient = self.surface.coefficients(products, weights, vth_shift_v)
        cells, given, first_v, step_v = self.tables
        if holder.capacitance_f:
            found = self._relaxed(coefficient)
        else:
            found = kernels.balance(coefficient, cells, given, first_v, step_v)
        if holder.transimpedance_ohm:
            given_a = kernels.at(given, found, first_v, step_v)
            found = holder.level_v - holder.transimpedance_ohm * given_a
        found[:, holder.lines :] = np.nan
        return found

    def _relaxed(self, coefficient: Float[np.ndarray, "sample line component"]) -> Float[np.ndarray, "sample line"]:
        """The lines at the read, by Runge-Kutta steps that are shorter than the fastest line's time constant."""
        from cosim.fast import kernels

        holder = self.holder
        cells, given, first_v, step_v = self.tables
        steep_s = -np.diff(given, axis=1).min() / step_v
        steps = int(np.clip(np.ceil(3 * holder.time_s * steep_s / holder.capacitance_f), _STEPS, _MOST_STEPS))
        plan = np.zeros((steps, 8))
        plan[:, 0] = holder.time_s / steps
        charge = np.zeros((len(coefficient), 1, 5))
        charge[:, :, 0] = holder.capacitance_f
        found = np.empty(coefficient.shape[:2])
        for line in range(coefficient.shape[1]):
            own = np.concatenate([coefficient[:, [line]], np.full((len(found), 1, 1), -1.0)], axis=2)
            table = np.ascontiguousarray(np.c_[cells, given[line]][None])
            start_v = np.array([holder.start_v[line]])
            found[:, line] = kernels.integrate(own, charge, 0.0, start_v, table, first_v, step_v, plan)[:, 0, -1]
        return found

    @cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Currents of the components (voltage, component), of the holders (line, voltage), first volt, step."""
        s = self.surface
        fine_v = np.linspace(s.voltage_v[0], s.voltage_v[-1], _FINE)
        cells = CubicSpline(s.voltage_v, s.basis_a[:, -1], axis=1)(fine_v)
        given = CubicSpline(s.voltage_v, self.holder.current_a, axis=1)(fine_v)
        return np.ascontiguousarray(cells.T), given, float(fine_v[0]), float(fine_v[1] - fine_v[0])
