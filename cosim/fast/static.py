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


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """What holds the lines, and what is read of them.

    Args:
        rows: Rows of the column.
        lines: Lines of a column, one or two.
        current_a: What the load or the clamp gives each line, in amperes, on the surface's voltage axis.
        level_v: The read-out is this less transimpedance_ohm times the line's current, in volts.
        transimpedance_ohm: 0 where the line itself is read.
    """

    rows: int
    lines: int
    current_a: Float[np.ndarray, "line voltage"]
    level_v: float
    transimpedance_ohm: float


# No slots: the tables are made once, when they are first needed.
@dataclass(frozen=True, eq=False)
class StaticColumn:
    """A column whose lines have settled: what holds a line gives the sum of its cells' currents.

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
        found = kernels.balance(coefficient, cells, given, first_v, step_v)
        if holder.transimpedance_ohm:
            given_a = kernels.at(given, found, first_v, step_v)
            found = holder.level_v - holder.transimpedance_ohm * given_a
        found[:, holder.lines :] = np.nan
        return found

    @cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Currents of the components (voltage, component), of the holders (line, voltage), first volt, step."""
        s = self.surface
        fine_v = np.linspace(s.voltage_v[0], s.voltage_v[-1], _FINE)
        cells = CubicSpline(s.voltage_v, s.basis_a[:, -1], axis=1)(fine_v)
        given = CubicSpline(s.voltage_v, self.holder.current_a, axis=1)(fine_v)
        return np.ascontiguousarray(cells.T), given, float(fine_v[0]), float(fine_v[1] - fine_v[0])
