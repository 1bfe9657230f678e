"""Levels of a layer whose inputs turn its rows on and off: the same references however many rows are on.

How many rows are on changes from read to read, and references are voltages that stand still; so one set of levels
is made from all reads of a layer. Differential sensing tells the partial sum itself. Single-ended sensing tells the
rows that pull the line, and the digital side, which knows how many are on, makes it the partial sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Int64

from cosim.errors import InputError
from cosim.surrogate.calibration import Levels, lloyd_max
from cosim.surrogate.model import Sensing, Surrogate


def shared_levels(
    surrogate: Surrogate, histograms: Mapping[int, Int64[np.ndarray, " count"]], sensing: Sensing, levels: int
) -> dict[int, Levels]:
    """Lloyd-Max levels of all reads of a layer, for each number of rows that are on.

    Args:
        histograms: How often each count of product -1 occurred, by the number of rows that were on.
        levels: Most levels; fewer where fewer different values occurred.

    Raises:
        InputError: No read, or a number of rows at which the surrogate does not tell what is sensed.
    """
    for n in histograms:
        surrogate.check_active(sensing, n)
    weight, value = _pooled(histograms, sensing)
    if not value.size:
        raise InputError("an empty histogram of partial sums", hint="calibrate with at least one image")
    first, centroid = lloyd_max(weight, value, min(levels, value.size))
    # Between two centroids, but clear of the values on either side of the boundary.
    gap = (value[first] - value[first - 1]) / 4
    bound = np.clip((centroid[:-1] + centroid[1:]) / 2, value[first - 1] + gap, value[first] - gap)
    reference_v = _reference_v(surrogate, histograms, sensing, bound)
    about: dict[int, Levels] = {}
    for n, histogram in histograms.items():
        counts, macs = (-bound, n + 2 * centroid) if sensing == "single_ended" else ((n - bound) / 2, centroid)
        about[n] = Levels(counts, reference_v, macs.clip(-n, n), histogram)
    return about


def _pooled(
    histograms: Mapping[int, Int64[np.ndarray, " count"]], sensing: Sensing
) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, " value"]]:
    """How often each value that is sensed occurred, rising with the partial sum: minus the count, or the sum itself."""
    most = max(histograms)
    total = np.zeros(2 * most + 1)
    for n, histogram in histograms.items():
        counts = np.arange(n + 1)
        total[most + (-counts if sensing == "single_ended" else n - 2 * counts)] += histogram
    seen = np.flatnonzero(total)
    return total[seen], (seen - most).astype(float)


def _reference_v(
    surrogate: Surrogate,
    histograms: Mapping[int, Int[np.ndarray, " count"]],
    sensing: Sensing,
    bound: Float[np.ndarray, " reference"],
) -> Float[np.ndarray, " reference"]:
    """The mean voltage at the bounds, with as many rows on as there were on average."""
    reads = {n: int(histogram.sum()) for n, histogram in histograms.items()}
    usual = sum(n * each for n, each in reads.items()) / sum(reads.values())
    if sensing == "single_ended":
        minus, n_active = -bound, np.maximum(usual, -bound)
    else:
        n_active = np.maximum(usual, np.abs(bound))
        minus = (n_active - bound) / 2
    return surrogate.moments(sensing, minus, n_active - minus).mean_v
