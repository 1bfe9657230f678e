"""References and centroids: where the sense amplifier's levels sit, set from a network's own partial sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cosim.circuit.column_adc import ColumnAdc
from cosim.errors import InputError
from cosim.surrogate.model import Sensing, Surrogate

Group = tuple[str, int]
"""A layer's name and the number of its active rows: arrays with left-over rows have levels of their own."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The sense amplifier's levels for one group.

    Args:
        threshold_count: Where one code ends, in rows that pull BL, rising in code, thus falling in count.
        reference_v: The same thresholds as voltages; rising, or falling where the voltage falls with the partial sum.
        centroid_mac: What each code stands for as a partial sum, rising.
        histogram: Training partial sums by `n_minus`.
    """

    threshold_count: Float[np.ndarray, " reference"]
    reference_v: Float[np.ndarray, " reference"]
    centroid_mac: Float[np.ndarray, " code"]
    histogram: Int[np.ndarray, " count"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Levels of every group, with what they were made from.

    Args:
        adc: The stated converter of which the levels are; none for a sense amplifier of comparators.
    """

    sensing: Sensing
    bits: int
    levels: Mapping[Group, Levels]
    provenance: Mapping[str, str | int | float]
    adc: ColumnAdc | None = None


def calibrate(
    surrogate: Surrogate,
    histograms: Mapping[Group, Int[np.ndarray, " count"]],
    *,
    sensing: Sensing,
    bits: int,
    provenance: Mapping[str, str | int | float],
) -> Calibration:
    """Lloyd-Max levels (2**bits of them) for each group's histogram of `n_minus`, from training images.

    A group with fewer different counts than levels gets one level a count.

    Raises:
        InputError: bits outside 1..6, an empty histogram, more active rows than the surrogate has, or too few of
            them for differential sensing; or differential sensing of a column of one line.
    """
    surrogate.check_sensing(sensing)
    if not 1 <= bits <= 6:
        raise InputError(f"bits = {bits}, expected 1 to 6")
    levels = {group: _levels(surrogate, histogram, sensing, 2**bits) for group, histogram in histograms.items()}
    return Calibration(sensing, bits, levels, dict(provenance))


def lloyd_max(
    weight: Float[np.ndarray, " value"], value: Float[np.ndarray, " value"], levels: int
) -> tuple[Int[np.ndarray, " boundary"], Float[np.ndarray, " level"]]:
    """The quantizer of least mean squared error (Lloyd 1982, Max 1960), exactly, by dynamic programming.

    Args:
        value: Rising; `weight` says how often each occurs.

    Returns:
        The index of the first value of each level but the first, and each level's centroid.

    >>> first, centroid = lloyd_max(np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.0, 1.0, 8.0, 9.0]), 2)
    >>> first.tolist(), centroid.tolist()
    ([2], [0.5, 8.5])
    """
    size = value.size
    cost = _range_costs(weight, value)
    best, choice = cost[0].copy(), np.zeros((levels, size), np.int64)
    for level in range(1, levels):
        # total[j, i]: level - 1 levels over the values before i, one over i..j.
        total = np.full((size, size), np.inf)
        for last in range(level, size):
            total[last, level : last + 1] = best[level - 1 : last] + cost[level : last + 1, last]
        choice[level] = total.argmin(axis=1)
        best = total.min(axis=1)
    first: list[int] = []
    last = size - 1
    for level in range(levels - 1, 0, -1):
        first.insert(0, int(choice[level, last]))
        last = first[0] - 1
    parts = np.split(np.arange(size), first)
    centroid = np.array([np.average(value[part], weights=weight[part]) for part in parts])
    return np.array(first, np.int64), centroid


def _range_costs(weight: Float[np.ndarray, " value"], value: Float[np.ndarray, " value"]) -> np.ndarray:
    """Squared error of one level over the values i..j, at [i, j]."""
    zero = np.zeros(1)
    mass = np.concatenate((zero, np.cumsum(weight)))
    first = np.concatenate((zero, np.cumsum(weight * value)))
    second = np.concatenate((zero, np.cumsum(weight * value**2)))
    w, s, q = (total[None, 1:] - total[:-1, None] for total in (mass, first, second))
    return q - s**2 / np.where(w > 0, w, 1.0)


def _levels(surrogate: Surrogate, histogram: Int[np.ndarray, " count"], sensing: Sensing, levels: int) -> Levels:
    n_active = histogram.size - 1
    surrogate.check_active(sensing, n_active)
    seen = np.flatnonzero(histogram)[::-1]  # falling count is rising partial sum
    if seen.size == 0:
        raise InputError("an empty histogram of partial sums", hint="calibrate with at least one image")
    first, centroid = lloyd_max(histogram[seen].astype(float), n_active - 2.0 * seen, min(levels, seen.size))
    # Between two centroids, but clear of the counts on either side of the boundary.
    middle = (n_active - (centroid[:-1] + centroid[1:]) / 2) / 2
    below, above = seen[first], seen[first - 1]
    threshold = np.clip(middle, below + 0.25 * (above - below), above - 0.25 * (above - below))
    reference_v = surrogate.moments(sensing, threshold, n_active - threshold).mean_v
    return Levels(threshold, reference_v, centroid, histogram)
