"""Slow, obvious NumPy twins of real weights and of poolings; see `cosim.network.reference`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped

from cosim.network.binary_layers import ConvLayer, DenseLayer
from cosim.network.window import Window


def real_sums(
    seen: Shaped[np.ndarray, "image position input"], weights: Float32[np.ndarray, "column input"]
) -> Float32[np.ndarray, "image position column"]:
    """Products added in float64, input by input, and rounded once."""
    total = np.zeros((*seen.shape[:2], len(weights)))
    for i in range(seen.shape[2]):
        total = total + seen[:, :, i, None].astype(np.float64) * weights[:, i].astype(np.float64)
    return total.astype(np.float32)


def input_scales(
    reals: Float32[np.ndarray, "image channel height width"], window: Window
) -> Float32[np.ndarray, "image position"]:
    """The mean magnitude of what each position sees: over channels, then over the kernel."""
    total = np.zeros((len(reals), *reals.shape[2:]), np.float32)
    for channel in range(reals.shape[1]):
        total = total + np.abs(reals[:, channel])
    (down, right), (tall, wide) = window.padding, window.kernel
    border = [(0, 0), (down, down), (right, right)]
    padded = np.pad(total / np.float32(reals.shape[1]), border, constant_values=np.float32(abs(window.pad_value)))
    places = np.lib.stride_tricks.sliding_window_view(padded, (tall, wide), axis=(1, 2))
    places = places[:, :: window.stride[0], :: window.stride[1]]
    scales = np.zeros(places.shape[:3], np.float32)
    for y in range(tall):
        for x in range(wide):
            scales = scales + places[..., y, x]
    return (scales / np.float32(window.taps)).reshape(len(reals), -1)


def pooled(values: Shaped[np.ndarray, "image column *map"], layer: DenseLayer, of: str) -> np.ndarray:
    """The largest value or the average of every window, where the layer pools these values.

    Integers are not averaged but added up: they are divided when they become a real number.
    """
    if not isinstance(layer, ConvLayer) or layer.pool is None or layer.pool.of != of:
        return values
    pool = layer.pool
    (down, right), (tall, wide) = pool.padding, pool.size
    border = [(0, 0), (0, 0), (down, down), (right, right)]
    outside = 0 if pool.kind == "average" else _lowest(values)
    padded = np.pad(values, border, constant_values=values.dtype.type(outside))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (tall, wide), axis=(2, 3))
    windows = windows[:, :, :: pool.stride[0], :: pool.stride[1]]
    if pool.kind == "max":
        return windows.max(axis=(4, 5))
    total = np.zeros(windows.shape[:4], values.dtype)
    for y in range(tall):
        for x in range(wide):
            total = total + windows[..., y, x]
    return total / np.float32(pool.taps) if values.dtype == np.float32 else total


def _lowest(values: np.ndarray) -> float | int:
    return -np.inf if values.dtype.kind == "f" else int(np.iinfo(values.dtype).min)
