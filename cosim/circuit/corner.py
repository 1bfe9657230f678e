"""A global operating corner: process, supply and temperature."""

from __future__ import annotations

from dataclasses import dataclass

from cosim.circuit.names import check_corner_name
from cosim.errors import InputError

_COLDEST_C, _HOTTEST_C = -100.0, 250.0


@dataclass(frozen=True, slots=True)
class Corner:
    """What one die shares: its process corner, supply voltage and temperature.

    Args:
        process: Name of the model corner (tt, ff, ss, sf, fs).
        vdd_v: Supply voltage, in volts, positive.
        temp_c: Temperature, in degrees Celsius, -100 to 250.

    Raises:
        InputError: A value is out of range, or the corner's name is not plain.

    >>> str(Corner("tt", 1.0, 27.0))
    'tt 1 V 27 C'
    """

    process: str = "tt"
    vdd_v: float = 1.0
    temp_c: float = 27.0

    def __post_init__(self) -> None:
        """Refuse values out of their range."""
        check_corner_name(self.process)
        if not 0 < self.vdd_v < 100:
            raise InputError(f"vdd_v must be positive and in volts, got {self.vdd_v:g}")
        if not _COLDEST_C <= self.temp_c <= _HOTTEST_C:
            raise InputError(f"temp_c must be in -100..250 degrees Celsius, got {self.temp_c:g}")

    def __str__(self) -> str:
        """The corner in words, for titles."""
        return f"{self.process} {self.vdd_v:g} V {self.temp_c:g} C"
