"""A stated column converter's levels on a fitted line of its own: even steps, clipped at both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cosim.circuit.column_adc import ColumnAdc
from cosim.errors import InputError
from cosim.surrogate.calibration import Levels
from cosim.surrogate.model import Surrogate


@dataclass(frozen=True, slots=True)
class Transfer:
    """A line as a straight line through its means.

    Args:
        zero_v: At a partial sum of 0.
        mac_v: Volts a MAC unit; negative where the line falls with the partial sum.
        worst_mac: Largest distance of a mean from the straight line, in MAC units.
    """

    zero_v: float
    mac_v: float
    worst_mac: float


def transfer(surrogate: Surrogate, n_active: int) -> Transfer:
    """The line of least squares through the means at every count of `n_active` rows.

    Raises:
        InputError: A number of active rows that was not measured, or none.
    """
    if n_active < 1:
        raise InputError(f"n_active = {n_active}, expected at least 1")
    n_minus = np.arange(n_active + 1.0)
    mean_v = surrogate.moments("single_ended", n_minus, n_active - n_minus).mean_v
    mac = n_active - 2 * n_minus
    mac_v, zero_v = np.polyfit(mac, mean_v, 1)
    return Transfer(float(zero_v), float(mac_v), float(np.abs((mean_v - zero_v) / mac_v - mac).max()))


def stated_levels(surrogate: Surrogate, adc: ColumnAdc, histogram: Int[np.ndarray, " count"]) -> Levels:
    """The levels of a column converter, which training images do not move.

    The converter is one circuit, set for the column with all rows on: its thresholds are voltages that do not depend
    on the number of active rows. Where rows that are off shift the line (they read as -1 if their plates rest at 0),
    the digital side, which knows how many are off, adds the shift to every value as a whole number.

    Args:
        histogram: Training partial sums by `n_minus`; kept for the record.

    Raises:
        InputError: A column of two lines, or a number of active rows that was not measured.
    """
    check_column(surrogate)
    n_active = histogram.size - 1
    whole, here = transfer(surrogate, surrogate.rows), transfer(surrogate, n_active)
    shift = np.rint((whole.zero_v - here.zero_v) / here.mac_v)
    threshold_v = adc.thresholds_v(whole.zero_v, 2 * whole.mac_v)
    threshold_mac = (threshold_v - here.zero_v) / here.mac_v
    return Levels((n_active - threshold_mac) / 2, threshold_v, adc.values_mac() + shift, histogram)


def noise_v(surrogate: Surrogate, adc: ColumnAdc) -> float:
    """Offset and noise of a converter together, on the column's line, in volts."""
    mac_v = abs(transfer(surrogate, surrogate.rows).mac_v)
    return mac_v * float(np.hypot(adc.offset_sigma_mac, adc.noise_sigma_mac))


def check_column(surrogate: Surrogate) -> None:
    """Refuse a column that a column converter does not read.

    Raises:
        InputError: A column of two lines.
    """
    if surrogate.lines != 1:
        raise InputError("a column ADC reads a column of one line, this one has two", hint="use a sense amplifier")


def bits_of(adc: ColumnAdc) -> int:
    """Bits that number the converter's codes."""
    return int(np.ceil(np.log2(adc.levels)))
