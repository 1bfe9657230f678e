"""Offsets of a comparator to their moments at each level."""

from __future__ import annotations

from itertools import product

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
    at = [
        (offsets.level_v == level) & ((offsets.common_mode_v == mode) | (not several))
        for level, mode in product(levels, modes)
    ]
    measured = [place for place, chosen in enumerate(at) if chosen.any()]
    groups = [offset_group(offsets.chosen(at[place]), gradients) for place in measured]
    what = f"offsets of {name} at a level" + (" and common mode" if several else "")
    check_sizes((group.volts.size for group in groups), what)
    found = Estimates.of(groups)
    sigma_v = np.sqrt(found.variance)
    skew = np.array([_shrunk(*each) for each in zip(found.skew, found.skew_error, strict=True)])
    shape = (levels.size, modes.size) if several else (levels.size,)
    nearest = _nearest(levels, modes, np.array(measured))
    moments = (found.mean_v, sigma_v, skew, sigma_v / np.sqrt(2 * found.freedom))
    return ComparatorModel(
        name,
        levels,
        *(np.asarray(each)[nearest].reshape(shape) for each in moments),
        samples=min(group.volts.size for group in groups),
        common_mode_v=modes[np.isfinite(modes)],
    )


def _nearest(
    levels: Float[np.ndarray, " level"], modes: Float[np.ndarray, " mode"], measured: Int[np.ndarray, " group"]
) -> Int[np.ndarray, " place"]:
    """For each level and common mode the group that stands for it: its own, or the nearest level's measured there.

    Recipes may leave out the levels that a difference of two lines below the supply cannot have.
    """
    level, mode = np.divmod(np.arange(levels.size * modes.size), modes.size)
    found = np.empty(level.size, np.int64)
    for place in range(level.size):
        there = np.flatnonzero(mode[measured] == mode[place])
        found[place] = there[np.abs(levels[level[measured[there]]] - levels[level[place]]).argmin()]
    return found


def _shrunk(skew: float, error: float) -> float:
    """The skewness times 1 - (error / skewness)^2, the share that is not noise; 0 within its standard error.

    The factor is James and Stein's for one value.
    """
    return float(skew * max(0.0, 1 - (error / skew) ** 2)) if skew else 0.0
