"""Offsets of a comparator to their moments at each level."""

from __future__ import annotations

import numpy as np

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
    groups = [
        offset_group(
            offsets.chosen((offsets.level_v == level) & ((offsets.common_mode_v == mode) | (not several))), gradients
        )
        for level in levels
        for mode in modes
    ]
    what = f"offsets of {name} at a level" + (" and common mode" if several else "")
    check_sizes((group.volts.size for group in groups), what)
    found = Estimates.of(groups)
    shape = (levels.size, modes.size) if several else (levels.size,)
    sigma_v = np.sqrt(found.variance)
    skew = [_shrunk(*each) for each in zip(found.skew, found.skew_error, strict=True)]
    return ComparatorModel(
        amplifier=name,
        level_v=levels,
        offset_mean_v=found.mean_v.reshape(shape),
        offset_sigma_v=sigma_v.reshape(shape),
        offset_skew=np.reshape(skew, shape),
        sigma_error_v=np.reshape(sigma_v / np.sqrt(2 * found.freedom), shape),
        samples=min(group.volts.size for group in groups),
        common_mode_v=modes[np.isfinite(modes)],
    )


def _shrunk(skew: float, error: float) -> float:
    """The skewness times 1 - (error / skewness)^2, the share that is not noise; 0 within its standard error.

    The factor is James and Stein's for one value.
    """
    return float(skew * max(0.0, 1 - (error / skew) ** 2)) if skew else 0.0
