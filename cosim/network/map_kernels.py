"""Compiled kernels on maps: layout of inputs, exact sums of pixels, and what follows the sums.

A map holds one 64-bit word for up to 64 channels of a pixel; NumPy twins are in `cosim.network.reference`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8, UInt64

from cosim.compiling import compiled, popcount

_PACK = np.uint64(0x0102040810204080)
_TOP = np.uint64(56)


@compiled
def gather(
    maps: UInt64[np.ndarray, "image pixel word"],
    pixels: Int64[np.ndarray, "position tap"],
    padding: np.uint64,
    tap: Int64[np.ndarray, " run"],
    word: Int64[np.ndarray, " run"],
    shift: UInt64[np.ndarray, " run"],
    mask: UInt64[np.ndarray, " run"],
    line: Int64[np.ndarray, " run"],
    to: UInt64[np.ndarray, " run"],
    lines: UInt64[np.ndarray, "patch line"],
) -> None:
    """Fill `lines` with the inputs of every patch as `Runs` lays them out; `padding` is a word beyond the border."""
    positions = pixels.shape[0]
    for image in range(maps.shape[0]):
        for position in range(positions):
            patch = image * positions + position
            lines[patch] = 0
            for run in range(tap.shape[0]):
                pixel = pixels[position, tap[run]]
                bits = padding if pixel < 0 else maps[image, pixel, word[run]]
                lines[patch, line[run]] |= ((bits >> shift[run]) & mask[run]) << to[run]


@compiled
def pack_pixels(
    images: UInt8[np.ndarray, "image value"],
    channels: int,
    threshold: int,
    maps: UInt64[np.ndarray, "image pixel word"],
) -> None:
    """Fill `maps` with the bits value >= threshold; an image's values lie pixel by pixel."""
    pixels = maps.shape[1]
    for image in range(images.shape[0]):
        for pixel in range(pixels):
            for word in range(maps.shape[2]):
                packed = np.uint64(0)
                for bit in range(min(64, channels - 64 * word)):
                    on = images[image, pixel * channels + 64 * word + bit] >= threshold
                    packed |= np.uint64(on) << np.uint64(bit)
                maps[image, pixel, word] = packed


@compiled
def gather_pixels(
    images: UInt8[np.ndarray, "image value"],
    pixels: Int64[np.ndarray, "position tap"],
    channels: int,
    patches: UInt8[np.ndarray, "patch input"],
) -> None:
    """Fill `patches` with the pixel values of every patch, kernel position by kernel position, 0 in the padding."""
    positions, taps = pixels.shape
    for image in range(images.shape[0]):
        for position in range(positions):
            patch = image * positions + position
            for tap in range(taps):
                pixel = pixels[position, tap]
                for channel in range(channels):
                    inside = pixel >= 0
                    value = images[image, pixel * channels + channel] if inside else np.uint8(0)
                    patches[patch, tap * channels + channel] = value


@compiled
def pixel_planes(
    images: UInt8[np.ndarray, "image pixel"],
    planes: UInt64[np.ndarray, "image word bit"],
    totals: Int32[np.ndarray, " image"],
) -> None:
    """Fill `planes` with the pixels' bits, one word a bit and 64 pixels, and `totals` with their sums."""
    pixels = images.shape[1]
    for image in range(images.shape[0]):
        total = np.int32(0)
        for pixel in range(pixels):
            total += np.int32(images[image, pixel])
        totals[image] = total
        for word in range(planes.shape[1]):
            for bit in range(8):
                plane = np.uint64(0)
                for position in range(min(64, pixels - 64 * word)):
                    value = np.uint64((images[image, 64 * word + position] >> bit) & 1)
                    plane |= value << np.uint64(position)
                planes[image, word, bit] = plane


@compiled
def pixel_sums(
    planes: UInt64[np.ndarray, "image word bit"],
    totals: Int32[np.ndarray, " image"],
    weights: UInt64[np.ndarray, "word column"],
    sums: Int32[np.ndarray, "image column"],
) -> None:
    """Fill `sums` with the exact sums of pixel times weight: 2 * (sum over weights +1) - (sum over all)."""
    words, columns = weights.shape
    plus = np.empty(columns, np.uint64)
    for image in range(planes.shape[0]):
        plus[:] = 0
        for word in range(words):
            p0, p1, p2, p3 = (
                planes[image, word, 0],
                planes[image, word, 1],
                planes[image, word, 2],
                planes[image, word, 3],
            )
            p4, p5, p6, p7 = (
                planes[image, word, 4],
                planes[image, word, 5],
                planes[image, word, 6],
                planes[image, word, 7],
            )
            if p0 | p1 | p2 | p3 | p4 | p5 | p6 | p7 == 0:
                continue
            for column in range(columns):
                on = weights[word, column]
                value = popcount(p7 & on)
                value = value + value + popcount(p6 & on)
                value = value + value + popcount(p5 & on)
                value = value + value + popcount(p4 & on)
                value = value + value + popcount(p3 & on)
                value = value + value + popcount(p2 & on)
                value = value + value + popcount(p1 & on)
                value = value + value + popcount(p0 & on)
                plus[column] += value
        for column in range(columns):
            sums[image, column] = np.int32(2) * np.int32(plus[column]) - totals[image]


@compiled
def pool_sums(
    values: Int32[np.ndarray, "image position column"],
    pixels: Int64[np.ndarray, "place tap"],
    pooled: Int32[np.ndarray, "image place column"],
) -> None:
    """Fill `pooled` with the largest sums of every window."""
    columns = values.shape[2]
    for image in range(values.shape[0]):
        for place in range(pixels.shape[0]):
            pooled[image, place] = -(2**31)
            for tap in range(pixels.shape[1]):
                pixel = pixels[place, tap]
                if pixel >= 0:
                    for column in range(columns):
                        value = values[image, pixel, column]
                        pooled[image, place, column] = max(pooled[image, place, column], value)


@compiled
def pool_reals(
    values: Float32[np.ndarray, "image position column"],
    pixels: Int64[np.ndarray, "place tap"],
    pooled: Float32[np.ndarray, "image place column"],
) -> None:
    """Fill `pooled` with the largest real outputs of every window."""
    columns = values.shape[2]
    for image in range(values.shape[0]):
        for place in range(pixels.shape[0]):
            pooled[image, place] = -np.inf
            for tap in range(pixels.shape[1]):
                pixel = pixels[place, tap]
                if pixel >= 0:
                    for column in range(columns):
                        value = values[image, pixel, column]
                        pooled[image, place, column] = max(pooled[image, place, column], value)


@compiled
def pool_bits(
    maps: UInt64[np.ndarray, "image position word"],
    pixels: Int64[np.ndarray, "place tap"],
    pooled: UInt64[np.ndarray, "image place word"],
) -> None:
    """Fill `pooled` with the largest signs of every window: one +1 is enough."""
    for image in range(maps.shape[0]):
        for place in range(pixels.shape[0]):
            pooled[image, place] = 0
            for tap in range(pixels.shape[1]):
                pixel = pixels[place, tap]
                if pixel >= 0:
                    for word in range(maps.shape[2]):
                        pooled[image, place, word] |= maps[image, pixel, word]


@compiled
def binarize(
    sums: Int32[np.ndarray, "patch column"],
    low: Int32[np.ndarray, " column"],
    high: Int32[np.ndarray, " column"],
    maps: UInt64[np.ndarray, "patch word"],
) -> None:
    """Fill `maps` with the bits low <= sum <= high."""
    columns = sums.shape[1]
    octets = np.zeros(8 * maps.shape[1], np.uint64)
    on = octets.view(np.uint8)
    for patch in range(sums.shape[0]):
        for column in range(columns):
            on[column] = (sums[patch, column] >= low[column]) & (sums[patch, column] <= high[column])
        _pack(octets, maps[patch])


@compiled
def signs_of(reals: Float32[np.ndarray, "patch column"], maps: UInt64[np.ndarray, "patch word"]) -> None:
    """Fill `maps` with the bits real >= 0."""
    octets = np.zeros(8 * maps.shape[1], np.uint64)
    on = octets.view(np.uint8)
    for patch in range(reals.shape[0]):
        for column in range(reals.shape[1]):
            on[column] = reals[patch, column] >= 0
        _pack(octets, maps[patch])


@compiled
def residual(
    sums: Int32[np.ndarray, "patch column"],
    unit: np.float32,
    scale: Float32[np.ndarray, " column"],
    offset: Float32[np.ndarray, " column"],
    shortcut: Float32[np.ndarray, "patch column"],
    hard_tanh: bool,
    reals: Float32[np.ndarray, "patch column"],
) -> None:
    """Fill `reals` with hard_tanh((sum * unit) * scale + offset + shortcut); no shortcut where it has no patch."""
    one = np.float32(1)
    for patch in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            value = np.float32(np.float32(sums[patch, column]) * unit) * scale[column]
            reals[patch, column] = value + offset[column]
        if shortcut.shape[0] > 0:
            for column in range(sums.shape[1]):
                reals[patch, column] += shortcut[patch, column]
        if hard_tanh:
            for column in range(sums.shape[1]):
                reals[patch, column] = min(max(reals[patch, column], -one), one)


@compiled
def _pack(octets: UInt64[np.ndarray, " eight"], packed: UInt64[np.ndarray, " word"]) -> None:
    """Bytes 0 and 1, eight to a word, as bits of words; the product moves the byte i to bit 56 + i."""
    for word in range(packed.shape[0]):
        bits = np.uint64(0)
        for octet in range(8):
            bits |= ((octets[8 * word + octet] * _PACK) >> _TOP) << np.uint64(8 * octet)
        packed[word] = bits
