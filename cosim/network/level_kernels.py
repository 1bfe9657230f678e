"""Compiled kernels of activations of several bits; NumPy twins are in `cosim.network.reference`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from cosim.compiling import compiled


@compiled
def quantize(
    sums: Int32[np.ndarray, "patch column"],
    low: Int32[np.ndarray, "step column"],
    high: Int32[np.ndarray, "step column"],
    levels: UInt8[np.ndarray, "patch column"],
) -> None:
    """Fill `levels` with the number of steps that have low <= sum <= high."""
    for patch in range(sums.shape[0]):
        levels[patch] = 0
        for step in range(low.shape[0]):
            for column in range(sums.shape[1]):
                value = sums[patch, column]
                levels[patch, column] += (value >= low[step, column]) & (value <= high[step, column])


@compiled
def quantize_reals(
    reals: Float32[np.ndarray, "patch column"],
    steps: Float32[np.ndarray, " step"],
    levels: UInt8[np.ndarray, "patch column"],
) -> None:
    """Fill `levels` with the number of steps that are not above the real number."""
    for patch in range(reals.shape[0]):
        levels[patch] = 0
        for step in range(steps.shape[0]):
            for column in range(reals.shape[1]):
                levels[patch, column] += reals[patch, column] >= steps[step]


@compiled
def pool_levels(
    levels: UInt8[np.ndarray, "image position column"],
    pixels: Int64[np.ndarray, "place tap"],
    pooled: UInt8[np.ndarray, "image place column"],
) -> None:
    """Fill `pooled` with the highest levels of every window."""
    columns = levels.shape[2]
    for image in range(levels.shape[0]):
        for place in range(pixels.shape[0]):
            pooled[image, place] = 0
            for tap in range(pixels.shape[1]):
                pixel = pixels[place, tap]
                if pixel >= 0:
                    for column in range(columns):
                        value = levels[image, pixel, column]
                        pooled[image, place, column] = max(pooled[image, place, column], value)
