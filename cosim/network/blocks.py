"""One block of images sent through a network, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int32, UInt8, UInt64

from cosim.network import kernels, map_kernels, real_kernels
from cosim.network.after_sums import Output, finish, macs, taken
from cosim.network.counter import image_keys, later_keys
from cosim.network.levels import unpack_levels
from cosim.network.packing import aligned, words_for
from cosim.network.program import Part, Program, Step
from cosim.network.read_tables import ReadTables
from cosim.network.threshold_kernels import narrow_sums, wide_sums

_AT_ONCE = 512  # Columns whose codes are drawn in one go: they fit in the first-level cache.


def run_block(program: Program, images: UInt8[np.ndarray, "image value"], first_image: int) -> Iterator[Output]:
    """The output of every layer; those that no later layer takes are not held."""
    numbers = np.arange(first_image, first_image + len(images), dtype=np.uint64)
    held: dict[int, Output] = {}
    last_use = {each: step.position for step in program.steps for each in (step.source, step.shortcut)}
    for step in program.steps:
        keys = image_keys(program.seed, step.position, numbers)
        before = held.get(step.source)
        inputs = None
        if step.layer.input in ("binary", "on_off"):
            inputs = _binary_images(program, images) if before is None else taken(before, step.layer.activation_bits)
        if step.layer.real_weights is not None:
            sums = real_sums(step, _real_inputs(step, images, inputs, before))
        elif inputs is None:
            sums = _added_up(pixel_sums(step, images), step.layer.weight_bits)
        else:
            sums = _over_planes(step, inputs, keys)
        if step.layer.scale_inputs:
            sums = _scaled(step, sums, before)
        shortcut = None if step.shortcut is None else held[step.shortcut].reals
        output = finish(step, inputs, sums.reshape(len(images), -1, sums.shape[1]), shortcut)
        held[step.position] = output
        held = {each: kept for each, kept in held.items() if last_use.get(each, -1) > step.position}
        yield output


def block_logits(
    program: Program, images: UInt8[np.ndarray, "image value"], first_image: int
) -> Float32[np.ndarray, "image logit"]:
    """Logits of images that fit in memory at once."""
    *_, last = run_block(program, images, first_image)
    return program.output.apply(macs(program.steps[-1], last.sums[:, 0]))


def pixel_sums(step: Step, images: UInt8[np.ndarray, "image value"]) -> Int32[np.ndarray, "patch column"]:
    """Exact sums of pixels times weights."""
    window, weights = step.layout.mapping.window, step.layout.weights
    patches = images
    if window.positions > 1 or window.taps > 1:
        patches = np.empty((len(images) * window.positions, window.in_features), np.uint8)
        map_kernels.gather_pixels(images, step.layout.pixels, window.channels, patches)
    planes = np.empty((len(patches), len(weights), 8), np.uint64)
    totals = np.empty(len(patches), np.int32)
    sums = np.empty((len(patches), weights.shape[1]), np.int32)
    map_kernels.pixel_planes(patches, planes, totals)
    map_kernels.pixel_sums(planes, totals, weights, sums)
    return sums


def real_sums(step: Step, values: Float32[np.ndarray, "image pixel channel"]) -> Float32[np.ndarray, "patch column"]:
    """Sums of values times real weights."""
    real, window = step.real, step.layout.mapping.window
    assert real is not None
    patches = np.empty((len(values) * window.positions, window.in_features), np.float32)
    padding = np.float32(window.pad_value * (2**step.layer.activation_bits - 1))
    real_kernels.gather_reals(values, step.layout.pixels, padding, real.tap, real.channel, patches)
    sums = np.empty((len(patches), real.weights.shape[1]), np.float32)
    real_kernels.real_sums(patches, real.weights, sums)
    return sums


def _over_planes(
    step: Step, inputs: UInt64[np.ndarray, "plane image pixel word"], keys: UInt64[np.ndarray, " image"]
) -> Int32[np.ndarray, "patch output"]:
    """The sums of every bit of the activations, each worth twice the one before it."""
    total = read_sums(step, inputs[0], keys)
    for bit, plane in enumerate(inputs[1:], start=1):
        total = total + (read_sums(step, plane, keys, bit) << np.int32(bit))
    return total


def read_sums(
    step: Step, maps: UInt64[np.ndarray, "image pixel word"], keys: UInt64[np.ndarray, " image"], bit: int = 0
) -> Int32[np.ndarray, "patch output"]:
    """What is read of one bit of the activations, every bit of the weights worth twice the one before it.

    Each bit of the activations, and each part of the columns, is drawn on its own.
    """
    mapping = step.layout.mapping
    lines, total, bits = step.layout.lines(maps), None, step.layer.weight_bits // len(step.parts)
    for number, part in enumerate(step.parts):
        reads = (bit * len(step.parts) + number) * mapping.window.positions * mapping.arrays
        read = _part_sums(step, part, lines, bit, later_keys(keys, reads) if reads else keys)
        sums = _added_up(read, bits)
        total = sums if total is None else total + (sums << np.int32(number))
    assert total is not None
    return total


def _part_sums(
    step: Step, part: Part, lines: UInt64[np.ndarray, "patch line"], bit: int, keys: UInt64[np.ndarray, " image"]
) -> Int32[np.ndarray, "patch column"]:
    """Sums over sub-arrays of what is read from each, times the factors of a support."""
    layout, support = step.layout, step.layer.support
    if support is None:
        return _read(step, part, lines, layout.active, bit, keys)
    words = layout.mapping.words
    total = np.zeros((len(lines), part.weights.shape[1]), np.int32)
    for block, factor in enumerate(support.value):
        only = np.zeros_like(layout.active)
        here = slice(block * words, (block + 1) * words)
        only[:, here] = layout.active[:, here]
        total += _read(step, part, lines, only, bit, keys) * factor
    return total


def _read(
    step: Step,
    part: Part,
    lines: UInt64[np.ndarray, "patch line"],
    active: UInt64[np.ndarray, "kind line"],
    bit: int,
    keys: UInt64[np.ndarray, " image"],
) -> Int32[np.ndarray, "patch column"]:
    """Sums over the sub-arrays that have rows on."""
    mapping, tables = step.layout.mapping, part.tables[bit] if part.tables else None
    columns = part.weights.shape[1]
    sums = aligned((len(lines), columns), np.int32)
    common = (lines, mapping.kind, active)
    weights = (part.weights, mapping.on_off)
    if tables is None:
        kernels.ideal_sums(*common, *weights, sums)
    elif tables.nominal is not None:
        stairs, start = tables.nominal.stairs, (mapping.words, tables.start)
        if stairs is None:
            kernels.nominal_sums(*common, *weights, *start, tables.nominal.centroid, sums)
        else:
            about = (mapping.words, tables.table, stairs.bottom, stairs.step, stairs.rise)
            kernels.nominal_stairs(*common, *weights, *about, sums)
    elif tables.thresholds is not None:
        _compare(step, part, lines, active, tables, keys, sums)
    else:
        assert tables.alias is not None
        at_once = (max(1, _AT_ONCE // columns), columns)
        work = [aligned(at_once, dtype) for dtype in (np.uint32, np.uint32, np.uint64)]
        kernels.iid_sums(*common, *weights, mapping.words, tables.start, tables.alias, keys, sums, *work)
    return sums


def _compare(
    step: Step,
    part: Part,
    lines: UInt64[np.ndarray, "patch line"],
    active: UInt64[np.ndarray, "kind line"],
    tables: ReadTables,
    keys: UInt64[np.ndarray, " image"],
    sums: Int32[np.ndarray, "patch column"],
) -> None:
    """Fill `sums` by comparing draws with cumulative probabilities."""
    mapping, table, thresholds = step.layout.mapping, tables.table, tables.thresholds
    assert thresholds is not None
    common = (lines, mapping.kind, active)
    if part.blocks is not None and thresholds.wide is not None:
        total = aligned(part.blocks.shape[1:], np.int32)
        wide_sums(*common, part.blocks, mapping.on_off, table, thresholds.wide, keys, sums, total)
    else:
        assert thresholds.by_count is not None
        assert thresholds.centroid is not None
        about = (table, thresholds.by_count, thresholds.centroid)
        narrow_sums(*common, part.weights, mapping.on_off, *about, keys, sums)


def _added_up(sums: Int32[np.ndarray, "patch column"], bits: int) -> Int32[np.ndarray, "patch output"]:
    """The columns of the bits of a weight, each worth twice the one before it."""
    by_bit = sums.reshape(len(sums), bits, -1)
    total = by_bit[:, 0]
    for bit in range(1, bits):
        total = total + (by_bit[:, bit] << np.int32(bit))
    return total


def _real_inputs(
    step: Step,
    images: UInt8[np.ndarray, "image value"],
    inputs: UInt64[np.ndarray, "plane image pixel word"] | None,
    before: Output | None,
) -> Float32[np.ndarray, "image pixel channel"]:
    """What a layer of real weights takes, as numbers."""
    channels = step.layout.mapping.window.channels
    if step.layer.input == "pixels":
        return images.reshape(len(images), -1, channels).astype(np.float32)
    if step.layer.input == "real":
        assert before is not None  # Network has checked it.
        assert before.reals is not None
        return before.reals
    assert inputs is not None
    levels = unpack_levels(inputs, channels).astype(np.float32)
    highest = np.float32(2**step.layer.activation_bits - 1)
    return levels if step.layer.input == "binary" else (levels + highest) / np.float32(2)


def _scaled(step: Step, sums: Int32[np.ndarray, "patch output"], before: Output | None) -> Float32[np.ndarray, "..."]:
    """The sums in MAC units times the mean magnitude of their inputs."""
    assert before is not None  # Network has checked it.
    assert before.reals is not None
    window = step.layout.mapping.window
    scales = np.empty((len(before.reals), window.positions), np.float32)
    real_kernels.input_scales(before.reals, step.layout.pixels, np.float32(abs(window.pad_value)), scales)
    scaled = np.empty(sums.shape, np.float32)
    real_kernels.scale_sums(sums, np.float32(2.0**-step.fraction_bits), scales.reshape(-1), scaled)
    return scaled


def _binary_images(
    program: Program, images: UInt8[np.ndarray, "image value"]
) -> UInt64[np.ndarray, "plane image pixel word"]:
    """The image as a map of signs, one map of one pixel where the first layer is dense."""
    channels = program.steps[0].layout.mapping.window.channels
    maps = np.empty((len(images), images.shape[1] // channels, words_for(channels)), np.uint64)
    threshold = program.network.pixel_threshold
    assert threshold is not None  # Network has checked it.
    map_kernels.pack_pixels(images, channels, threshold, maps)
    return maps[None]
