"""A column's converter that is stated by its figures instead of simulated: levels, offset and noise in MAC units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cosim.circuit.folders import circuit_folder
from cosim.circuit.names import Line
from cosim.config import load_toml

_MAC_PER_COUNT = 2.0
"""One more row that agrees is one less that disagrees."""


@dataclass(frozen=True, slots=True)
class ColumnAdc:
    """A converter with evenly spaced levels about a MAC of 0.

    Args:
        title: What it is, one line.
        source: Where its figures come from.
        levels: Codes.
        step_mac: Between the values of two neighbouring codes, in MAC units.
        offset_sigma_mac: Standard deviation of its offset, one draw a converter, frozen; in MAC units.
        noise_sigma_mac: Standard deviation of a read, fresh each time; in MAC units.
    """

    title: Line
    source: Annotated[Line, Field(min_length=1)]
    levels: Annotated[int, Field(ge=2, le=4096)]
    step_mac: Annotated[float, Field(gt=0)]
    offset_sigma_mac: Annotated[float, Field(ge=0)]
    noise_sigma_mac: Annotated[float, Field(ge=0)] = 0.0

    def values_mac(self) -> Float[np.ndarray, "code"]:
        """The partial sum that each code stands for.

        >>> load_column_adc("column_adc").values_mac()[[0, 5, 10]].tolist()
        [-65.0, 0.0, 65.0]
        """
        return self.step_mac * (np.arange(self.levels) - (self.levels - 1) / 2)

    def thresholds_mac(self) -> Float[np.ndarray, "reference"]:
        """Where the code changes, half-way between values; one fewer than the codes."""
        values = self.values_mac()
        return (values[:-1] + values[1:]) / 2

    def thresholds_v(self, zero_v: float, count_v: float) -> Float[np.ndarray, "reference"]:
        """The thresholds on a column's line.

        Args:
            zero_v: The line at a MAC of 0, in volts.
            count_v: What one more row at +1 in the place of one at -1 adds, in volts.
        """
        return zero_v + count_v / _MAC_PER_COUNT * self.thresholds_mac()

    def offset_sigma_v(self, count_v: float) -> float:
        """The offset's standard deviation on a column's line, in volts."""
        return self.offset_sigma_mac * count_v / _MAC_PER_COUNT


def load_column_adc(name_or_folder: str | Path) -> ColumnAdc:
    """A converter from its folder: `adc.toml`.

    Raises:
        InputError: The folder or a key is missing or wrong; with file and line.
    """
    return load_toml(circuit_folder(name_or_folder, "sense") / "adc.toml", ColumnAdc)
