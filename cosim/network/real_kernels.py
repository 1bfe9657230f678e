"""Compiled kernels of real numbers: sums with real weights, averages; twins are in `cosim.network.real_reference`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from cosim.compiling import compiled


@compiled
def gather_reals(
    values: Float32[np.ndarray, "image pixel channel"],
    pixels: Int64[np.ndarray, "position tap"],
    padding: np.float32,
    tap: Int64[np.ndarray, " input"],
    channel: Int64[np.ndarray, " input"],
    patches: Float32[np.ndarray, "patch input"],
) -> None:
    """Fill `patches` with the value that each input sees at each position; `padding` beyond the border."""
    positions = pixels.shape[0]
    for image in range(values.shape[0]):
        for position in range(positions):
            patch = image * positions + position
            for i in range(tap.shape[0]):
                pixel = pixels[position, tap[i]]
                patches[patch, i] = padding if pixel < 0 else values[image, pixel, channel[i]]


@compiled
def real_sums(
    patches: Float32[np.ndarray, "patch input"],
    weights: Float64[np.ndarray, "input column"],
    sums: Float32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` with the products added in float64 input by input, rounded once; a fused product changes nothing."""
    inputs, columns = weights.shape
    total = np.empty(columns, np.float64)
    for patch in range(patches.shape[0]):
        total[:] = 0.0
        for i in range(inputs):
            value = np.float64(patches[patch, i])
            for column in range(columns):
                total[column] += value * weights[i, column]
        for column in range(columns):
            sums[patch, column] = np.float32(total[column])


@compiled
def average_reals(
    values: Float32[np.ndarray, "image position column"],
    pixels: Int64[np.ndarray, "place tap"],
    averages: Float32[np.ndarray, "image place column"],
) -> None:
    """Fill `averages` with the values of every window added in float32 tap by tap, over the number of taps."""
    columns, taps = values.shape[2], np.float32(pixels.shape[1])
    for image in range(values.shape[0]):
        for place in range(pixels.shape[0]):
            averages[image, place] = 0
            for tap in range(pixels.shape[1]):
                pixel = pixels[place, tap]
                if pixel >= 0:
                    for column in range(columns):
                        averages[image, place, column] += values[image, pixel, column]
            for column in range(columns):
                averages[image, place, column] /= taps


@compiled
def total_sums(
    values: Int32[np.ndarray, "image position column"],
    pixels: Int64[np.ndarray, "place tap"],
    totals: Int32[np.ndarray, "image place column"],
) -> None:
    """Fill `totals` with the integer sums of every window added up."""
    columns = values.shape[2]
    for image in range(values.shape[0]):
        for place in range(pixels.shape[0]):
            totals[image, place] = 0
            for tap in range(pixels.shape[1]):
                pixel = pixels[place, tap]
                if pixel >= 0:
                    for column in range(columns):
                        totals[image, place, column] += values[image, pixel, column]


@compiled
def input_scales(
    values: Float32[np.ndarray, "image pixel channel"],
    pixels: Int64[np.ndarray, "position tap"],
    outside: np.float32,
    scales: Float32[np.ndarray, "image position"],
) -> None:
    """Fill `scales` with the mean magnitude of what each position sees; `outside` is that of the padding."""
    images, places, channels = values.shape
    magnitudes = np.empty(places, np.float32)
    for image in range(images):
        for pixel in range(places):
            total = np.float32(0)
            for channel in range(channels):
                total += np.abs(values[image, pixel, channel])
            magnitudes[pixel] = total / np.float32(channels)
        for position in range(pixels.shape[0]):
            total = np.float32(0)
            for tap in range(pixels.shape[1]):
                pixel = pixels[position, tap]
                total += outside if pixel < 0 else magnitudes[pixel]
            scales[image, position] = total / np.float32(pixels.shape[1])


@compiled
def scale_sums(
    sums: Int32[np.ndarray, "patch column"],
    unit: np.float32,
    scales: Float32[np.ndarray, " patch"],
    scaled: Float32[np.ndarray, "patch column"],
) -> None:
    """Fill `scaled` with (sum * unit) * scale."""
    for patch in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            scaled[patch, column] = np.float32(np.float32(sums[patch, column]) * unit) * scales[patch]
