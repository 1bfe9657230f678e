"""References and centroids: where the sense amplifier's levels sit, set from a network's own partial sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from jaxtyping import Float, Int

from cosim.circuit.column_adc import ColumnAdc
from cosim.errors import InputError
from cosim.surrogate.model import Sensing, Surrogate

T = TypeVar("T")

LevelsPer = Literal["layer", "pair"]
"""What has levels of its own: a layer, or every pair of a bit of its weights and a bit of its activations."""

Pair = tuple[int, int]
"""A bit of the weights and a bit of the activations, 0 the lowest."""

ReadKey = int | tuple[int, int, int]
"""The number of active rows of a read; with levels for each pair, the bits of its weights and activations too."""

Group = tuple[str, int] | tuple[str, int, int, int]
"""A layer's name with a `ReadKey`: arrays with left-over rows, and perhaps pairs of bits, have levels of their own."""


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
        levels: `levels["dense2", 64]`, or `levels["dense2", 64, 1, 0]` of a pair of bits (weights, activations).
        adc: The stated converter of which the levels are; none for a sense amplifier of comparators.
    """

    sensing: Sensing
    bits: int
    levels: Mapping[Group, Levels]
    provenance: Mapping[str, str | int | float]
    adc: ColumnAdc | None = None


def group_of(layer: str, key: ReadKey) -> Group:
    """The group of one layer's reads.

    >>> group_of("dense2", 64), group_of("dense2", (64, 1, 0))
    (('dense2', 64), ('dense2', 64, 1, 0))
    """
    return (layer, *key) if isinstance(key, tuple) else (layer, key)


def key_of(group: Group) -> ReadKey:
    """A group without its layer.

    >>> key_of(("dense2", 64)), key_of(("dense2", 64, 1, 0))
    (64, (64, 1, 0))
    """
    return (group[1], group[2], group[3]) if len(group) == 4 else group[1]


def group_name(group: Group) -> str:
    """The layer, and the pair of bits where each has levels of its own.

    >>> group_name(("dense2", 64, 1, 0))
    'dense2, weight bit 1, activation bit 0'
    """
    return group[0] + (f", weight bit {group[2]}, activation bit {group[3]}" if len(group) == 4 else "")


def by_pair(of_layer: Mapping[ReadKey, T] | Mapping[int, T]) -> dict[Pair | None, dict[int, T]]:
    """A layer's values by pair of bits, then by number of active rows; under None those that all pairs share.

    >>> by_pair({64: "a"}), by_pair({(64, 1, 0): "b"})
    ({None: {64: 'a'}}, {(1, 0): {64: 'b'}})
    """
    found: dict[Pair | None, dict[int, T]] = {}
    for key, value in of_layer.items():
        n_active, pair = (key[0], key[1:]) if isinstance(key, tuple) else (key, None)
        found.setdefault(pair, {})[n_active] = value
    return found


def check_levels_per(levels_per: str) -> None:
    """Refuse what has no levels of its own.

    Raises:
        InputError: Naming what has.
    """
    if levels_per not in get_args(LevelsPer):
        raise InputError(f"levels_per must be one of {', '.join(get_args(LevelsPer))}, got {levels_per!r}")


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

    Of a layer of several bits the sum over its pairs (i, j) of 2**(i + j) * p_ij is wanted. The mean squared errors of
    the pairs add up to its own with weights 4**(i + j) where they are uncorrelated, and no pair's levels move another's
    error: so the levels that minimise each pair's own error minimise that sum, whatever the weights. Errors without
    variation are correlated where weights are near 0: their bits are opposite, and so are the partial sums. Levels of
    each pair are then opposite too and most of the error cancels, which common levels, that are not symmetric, do not
    give (docs/chain.md has figures).

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
