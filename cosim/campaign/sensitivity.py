"""A comparator's offset from its devices: the gradient by shifting one at a time, and what it predicts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

TOLERANCE_V = 20e-6
"""Half the last bracket of a perturbed comparator's bisection: finer than a sample's, which averages its own."""


def step_of(sample: int, devices: int) -> Float[np.ndarray, " device"]:
    """The shifts of perturbed comparator `sample`, in sigmas: device sample // 2, up and then down.

    >>> step_of(3, 3).tolist()
    [0.0, -1.0, 0.0]
    """
    shifts = np.zeros(devices)
    shifts[sample // 2] = 1.0 if sample % 2 == 0 else -1.0
    return shifts


def gradient_of(sample: Int[np.ndarray, " read"], offset_v: Float[np.ndarray, " read"]) -> Float[np.ndarray, " device"]:
    """Volts of offset a sigma of each device, from the perturbed comparators at one level.

    Raises:
        ValueError: A device without both of its offsets.
    """
    devices = -(-(int(sample.max(initial=-1)) + 1) // 2)
    found = np.full((devices, 2), np.nan)
    found[sample // 2, sample % 2] = offset_v
    if not devices or not np.isfinite(found).all():
        raise ValueError("a device without both of its perturbed offsets")
    return (found[:, 0] - found[:, 1]) / 2
