"""What a count is worth in volts at each point, from the means of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosim.campaign.points import ColumnPoint

_FEWEST = 3
"""Points with the same number of active rows that make a curve; fewer borrow the longest curve of their bias."""


@dataclass(frozen=True, slots=True)
class Place:
    """A point of a column with its signals' means in volts; none where too few samples were good."""

    key: str
    point: ColumnPoint
    mean_v: Mapping[str, float]


def volts_a_count(places: Sequence[Place]) -> dict[str, dict[str, float]]:
    """Volts a count of each signal, by the points' keys.

    One more row that pulls a line moves it by the gradient of the means over the neighbouring counts (of the same
    operating point and number of active rows); the difference moves by both lines' gradients, as one more row on the
    first is one less on the second. A signal without a mean has no entry.
    """
    found: dict[str, dict[str, float]] = {}
    for place in places:
        curve = _curve(place, places)
        slopes: dict[str, float] = {}
        for signal, count in (("bl", place.point.n_minus), ("blb", place.point.n_plus)):
            if signal in place.mean_v and len(curve) > 1:
                slopes[signal] = _slope(signal, count, curve)
        if len(slopes) == 2:
            slopes["difference"] = sum(slopes.values())
        found[place.key] = slopes
    return found


def _curve(place: Place, places: Sequence[Place]) -> list[Place]:
    """The points along whose counts a slope is taken."""
    bias = _bias(place.point)
    alike: dict[int, list[Place]] = {}
    for other in places:
        if _bias(other.point) == bias and other.mean_v.keys() == place.mean_v.keys():
            alike.setdefault(_active(other.point), []).append(other)
    own = alike[_active(place.point)]
    return own if len(own) >= _FEWEST else max(alike.values(), key=len)


def _slope(signal: str, count: int, curve: Sequence[Place]) -> float:
    """The size of the gradient of a line's mean over its count, between counts in a straight line."""
    counts = np.array([each.point.n_minus if signal == "bl" else each.point.n_plus for each in curve], float)
    order = np.argsort(counts)
    means = np.array([each.mean_v[signal] for each in curve])[order]
    return float(np.interp(count, counts[order], np.abs(np.gradient(means, counts[order]))))


def _active(point: ColumnPoint) -> int:
    return point.n_minus + point.n_plus


def _bias(point: ColumnPoint) -> tuple[object, ...]:
    bench = point.bench
    return (bench.corner, bench.rows, bench.word_line_v, bench.pulse_s)
