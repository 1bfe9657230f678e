"""What of a column is no static current: the charge on its lines, fitted to full columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

MIDDLE = 0.7
"""Bit-line voltage that the charge is expanded around, in units of the supply."""


@dataclass(frozen=True, slots=True)
class Electrical:
    """Charge that a row's transistors put on a bit line, by derivatives at u = V - MIDDLE vdd = 0.

    Without the word line, a capacitance row + slope u + curve u^2. A word line at W volts couples in W times
    couple + tilt u, for rows that are on; the charge is a function of both voltages, so what a rising edge
    couples in, the falling edge takes out again.

    Args:
        row_f: Capacitance of any row.
        slope_f_v: Its slope.
        curve_f_v2: Its curvature.
        pulling_f: What a row adds to row_f that pulls the line.
        off_f: What a row adds to row_f that is off.
        couple_f: Coupling of the word line to the line, a row that is on.
        couple_pulling_f: What of it a row adds that pulls the line.
        tilt_pulling_f_v: Slope of the coupling of a row that pulls the line.
    """

    row_f: float = 0.2e-15
    slope_f_v: float = -0.03e-15
    curve_f_v2: float = 0.0
    pulling_f: float = 0.0
    off_f: float = 0.0
    couple_f: float = 0.035e-15
    couple_pulling_f: float = 0.0
    tilt_pulling_f_v: float = 0.0

    def charge(
        self, counts: Float[np.ndarray, "sample line kind"], rows: int, c_bit_line_f: float
    ) -> Float[np.ndarray, "sample line term"]:
        """The five terms that `kernels.integrate` takes, for columns with these rows (see `column.counts_of`)."""
        pulling, other, off = np.moveaxis(counts, 2, 0)
        every = np.ones_like(pulling)
        terms = (
            c_bit_line_f + rows * self.row_f + pulling * self.pulling_f + off * self.off_f,
            every * rows * self.slope_f_v,
            every * rows * self.curve_f_v2,
            (pulling + other) * self.couple_f + pulling * self.couple_pulling_f,
            pulling * self.tilt_pulling_f_v,
        )
        return np.stack(terms, axis=2)

    @classmethod
    def from_array(cls, values: Float[np.ndarray, " parameter"]) -> Electrical:
        """From the parameters in their order, in femtofarads."""
        return cls(*(float(value) * 1e-15 for value in values))

    def to_array(self) -> Float[np.ndarray, " parameter"]:
        """The parameters in their order, in femtofarads."""
        return np.array([getattr(self, each.name) * 1e15 for each in fields(self)])
