"""Thresholds at the binary point of the sums that they meet."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from cosim.errors import InputError
from cosim.network.layers import BatchNorm, DenseLayer, Quantizer, Threshold
from cosim.network.levels import level_steps


def fixed_point(
    threshold: Threshold, batch_norm: BatchNorm | None, fraction_bits: int, taps: int = 1, level: float = 0.0
) -> Int64[np.ndarray, " column"]:
    """The threshold in units of 2**-fraction_bits MAC: on where direction * sum >= direction * value.

    An integer threshold is the batch norm's zero rounded towards the on side, exact for integer sums; for sums of
    fractional centroids that would be half a MAC unit too strict on average. So the zero itself is used where it
    is known, kept within the one MAC unit in which every integer sum still decides the same. Of an average pooling of
    sums, `taps` sums are added up to the one that meets the threshold, and the batch norm is of their average.
    Instead of its zero, the threshold may be where it reaches a `level`.

    >>> norm = BatchNorm(*(np.array([v], np.float32) for v in (1, 0, 4.5, 1)), epsilon=0.0)
    >>> fixed_point(Threshold(np.array([5], np.int32), np.array([1], np.int8)), norm, 4).tolist()
    [72]
    """
    whole = threshold.value.astype(np.int64) << fraction_bits
    if batch_norm is None or fraction_bits == 0:
        return whole
    one, direction = 1 << fraction_bits, threshold.direction.astype(np.int64)
    gamma, beta, mean, variance = (
        getattr(batch_norm, name).astype(float) for name in ("gamma", "beta", "mean", "variance")
    )
    safe = np.where(gamma == 0, 1.0, gamma)
    zero = (mean + (level - beta) * np.sqrt(variance + batch_norm.epsilon) / safe) * (one * taps)
    rising = np.clip(np.ceil(zero), whole - one + 1, whole)
    falling = np.clip(np.floor(zero), whole, whole + one - 1)
    moved = np.where(direction > 0, rising, falling).astype(np.int64)
    return np.where((direction == 0) | (gamma == 0), whole, moved)


def output_steps(layer: DenseLayer, fraction_bits: int) -> Int64[np.ndarray, "step column"]:
    """`fixed_point` of every step of a layer's output; of a threshold there is one.

    Raises:
        InputError: The output is real.
    """
    output, about = layer.output, (layer.batch_norm, fraction_bits, layer.sum_taps)
    if isinstance(output, Threshold):
        return fixed_point(output, *about)[None]
    if not isinstance(output, Quantizer):
        raise InputError("a real output has no steps", place=f"layer {layer.name}")
    steps = enumerate(level_steps(output.bits))
    return np.stack([fixed_point(output.step(number), *about, level=float(level)) for number, level in steps])
