"""Offsets of a comparator to their moments at each level."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from cosim.surrogate.comparator_gradient import Gradients, offset_group
from cosim.surrogate.estimates import Estimates, check_sizes
from cosim.surrogate.model import ComparatorModel
from cosim.surrogate.samples import ComparatorSamples


def fit_comparator(name: str, offsets: ComparatorSamples, gradients: Gradients | None = None) -> ComparatorModel:
    """The moments of a comparator's offsets at each level, and at each common mode where there are several.

    Args:
        gradients: Of the offset, where they were measured: what they predict of each sample is then its control.

    Raises:
        InputError: Too few offsets at a level.
    """
    levels, modes = np.unique(offsets.level_v), np.unique(offsets.common_mode_v)  # not a number counts once
    several = modes.size > 1
    sources = _sources(offsets, levels, modes)
    places = list(dict.fromkeys((int(level), mode) for row in sources for mode, level in enumerate(row)))
    at = [
        (offsets.level_v == levels[level]) & ((offsets.common_mode_v == modes[mode]) | (not several))
        for level, mode in places
    ]
    what = f"offsets of {name} at a level" + (" and common mode" if several else "")
    check_sizes((int(chosen.sum()) for chosen in at), what)
    groups = [offset_group(offsets.chosen(chosen), gradients) for chosen in at]
    found = Estimates.of(groups)
    sigma_v = np.sqrt(found.variance)
    skew = np.array([_shrunk(*each) for each in zip(found.skew, found.skew_error, strict=True)])
    moments = (found.mean_v, sigma_v, skew, sigma_v / np.sqrt(2 * found.freedom))
    group = np.array([[places.index((level, mode)) for mode, level in enumerate(row)] for row in sources])
    group = group if several else group[:, 0]
    return ComparatorModel(
        name,
        levels,
        *(np.asarray(each)[group] for each in moments),
        samples=min(group.volts.size for group in groups),
        common_mode_v=modes[np.isfinite(modes)],
    )


def _sources(
    offsets: ComparatorSamples, levels: Float[np.ndarray, " level"], modes: Float[np.ndarray, " mode"]
) -> Int[np.ndarray, "level mode"]:
    """The number of the level whose offsets stand for each level at each common mode.

    Its own, or the outermost that was measured there: recipes may leave out the levels that a difference of two lines
    below the supply cannot have, which are large ones.
    """
    found = np.empty((levels.size, modes.size), np.int64)
    for mode, mode_v in enumerate(modes):
        there = np.isin(levels, offsets.level_v[(offsets.common_mode_v == mode_v) | (modes.size == 1)])
        found[:, mode] = np.clip(np.arange(levels.size), *np.flatnonzero(there)[[0, -1]])
    return found


def _shrunk(skew: float, error: float) -> float:
    """The skewness times 1 - (error / skewness)^2, the share that is not noise; 0 within its standard error.

    The factor is James and Stein's for one value.
    """
    return float(skew * max(0.0, 1 - (error / skew) ** 2)) if skew else 0.0
