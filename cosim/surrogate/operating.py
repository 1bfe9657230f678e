"""Operating points: where a column was simulated, what may be asked for, and in which words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float

AXES = ("vdd_v", "temp_c", "word_line_v", "pulse_s")
"""What an operating point can be interpolated along; the process corner is a category."""

BIAS = AXES[2:]
"""What follows from the corner where the recipe has it found."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Process corner, supply, temperature and the column's bias."""

    process: str
    vdd_v: float
    temp_c: float
    word_line_v: float
    pulse_s: float

    @property
    def coordinates(self) -> Float[np.ndarray, " axis"]:
        """The values along `AXES`."""
        return np.array([getattr(self, name) for name in AXES])

    def __str__(self) -> str:
        """The point in words.

        >>> str(OperatingPoint("ff", 0.9, -40.0, 0.5, 150e-12))
        'ff 0.9 V -40 C, word line 0.5 V, pulse 150 ps'
        """
        bias = f"word line {self.word_line_v:g} V, pulse {1e12 * self.pulse_s:g} ps"
        return f"{self.process} {self.vdd_v:g} V {self.temp_c:g} C, {bias}"


@dataclass(frozen=True, slots=True)
class Request:
    """An operating point that is asked for; what is None is the only value that was simulated, if there is one."""

    process: str | None = None
    vdd_v: float | None = None
    temp_c: float | None = None
    word_line_v: float | None = None
    pulse_s: float | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return all(getattr(self, name) is None for name in self.__slots__)

    def differs_from(self, point: OperatingPoint) -> str | None:
        """The first quantity in which the request is another point, or none."""
        for name in self.__slots__:
            asked, there = getattr(self, name), getattr(point, name)
            if asked is not None and asked != there and not (name != "process" and np.isclose(asked, there, rtol=1e-6)):
                return name
        return None


def point_of(record: Mapping[str, Any]) -> OperatingPoint:
    """An operating point from an entry of the attribute `points`.

    Raises:
        KeyError, TypeError, ValueError: A quantity is missing, or no finite number.
    """
    values = [float(record[name]) for name in AXES]
    if not np.isfinite(values).all():
        raise ValueError(f"an operating point at {values}")
    return OperatingPoint(str(record["process"]), *values)


def records_of(attributes: Mapping[str, object]) -> list[dict[str, Any]]:
    """The entries of the attribute `points`; empty in files of one point that do not say it (samples.h5 1.0)."""
    records = json.loads(str(attributes.get("points", "[]")))
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in cast(list[object], records)):
        raise ValueError("points is no list of operating points")
    return cast(list[dict[str, Any]], records)
