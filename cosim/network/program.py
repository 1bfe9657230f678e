"""A network laid out for the kernels, and one block of images sent through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8, UInt64

from cosim.errors import InputError
from cosim.network import kernels
from cosim.network.counter import image_keys
from cosim.network.fixed_point import fixed_point
from cosim.network.layers import Affine, DenseLayer, Network, Threshold
from cosim.network.mapping import DEFAULT_ROWS, Mapping, map_inputs, to_arrays
from cosim.network.readout import Readouts, ReadTables, check_readouts, read_tables

Mode = Literal["ideal", "nominal", "iid"]
MODES: tuple[Mode, ...] = get_args(Mode)
_ARRAYS_MAX = 2**15


@dataclass(frozen=True, slots=True, eq=False)
class Threshold64:
    """A threshold at the sums' binary point: on where direction * sum >= value; both (column,)."""

    value: Int64[np.ndarray, " column"]
    direction: Int64[np.ndarray, " column"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One layer as the kernels take it.

    Attributes:
        position: The layer's place in the network, part of the random key.
        mapping: Where its inputs lie.
        weights: Weights with one word a sub-array, (array, column).
        tables: Look-up tables, or None where sums are exact.
        threshold: None for the last layer.
        pixels: Whether the inputs are pixels.
    """

    position: int
    mapping: Mapping
    weights: UInt64[np.ndarray, "array column"]
    tables: ReadTables | None
    threshold: Threshold64 | None
    pixels: bool

    @property
    def fraction_bits(self) -> int:
        """The position of the binary point of the sums."""
        return self.tables.fraction_bits if self.tables else 0


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A network prepared for one mode.

    Attributes:
        steps: One a layer.
        output: The map from the last sums to logits.
        mode: How partial sums are read.
        seed: Of the draws in mode iid.
    """

    steps: tuple[Step, ...]
    output: Affine
    mode: Mode
    seed: int


def prepare(
    network: Network, mode: Mode, readouts: Readouts | None, seed: int = 0, rows: int = DEFAULT_ROWS
) -> Program:
    """The network laid out for the kernels.

    Raises:
        InputError: Unknown mode, readouts missing or of the wrong shape, seed out of range.
    """
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode != "ideal":
        if readouts is None:
            raise InputError(f"mode {mode} needs readouts", hint="make them from a surrogate, or use mode ideal")
        check_readouts(network, readouts, rows)
    image_keys(seed, 0, np.zeros(1, np.uint64))  # Refuses a wrong seed before any work.
    output = network.layers[-1].output
    assert isinstance(output, Affine)  # Network has checked it.
    used = None if mode == "ideal" else readouts
    steps = tuple(_step(i, layer, used, rows) for i, layer in enumerate(network.layers))
    return Program(steps, output, mode, seed)


def run_block(
    program: Program, images: UInt8[np.ndarray, "image pixel"], first_image: int
) -> list[tuple[Int32[np.ndarray, "image column"], UInt64[np.ndarray, "image array"] | None]]:
    """Sums (fixed point) and packed outputs of every layer, for images that fit in memory at once."""
    inputs: UInt64[np.ndarray, "image array"] | None = None
    results: list[tuple[Int32[np.ndarray, "image column"], UInt64[np.ndarray, "image array"] | None]] = []
    numbers = np.arange(first_image, first_image + len(images), dtype=np.uint64)
    following = (*program.steps[1:], None)
    for step, after in zip(program.steps, following, strict=True):
        if step.pixels:
            sums = pixel_sums(step, images)
        else:
            assert inputs is not None
            sums = read_sums(step, inputs, program.mode, image_keys(program.seed, step.position, numbers))
        inputs = None
        if step.threshold is not None and after is not None:
            inputs = np.empty((len(images), after.mapping.arrays), np.uint64)
            kernels.binarize(sums, step.threshold.value, step.threshold.direction, after.mapping.rows, inputs)
        results.append((sums, inputs))
    return results


def pixel_sums(step: Step, images: UInt8[np.ndarray, "image pixel"]) -> Int32[np.ndarray, "image column"]:
    """Exact sums of pixels times weights."""
    planes = np.empty((len(images), step.mapping.arrays, 8), np.uint64)
    totals = np.empty(len(images), np.int32)
    sums = np.empty((len(images), step.weights.shape[1]), np.int32)
    kernels.pixel_planes(images, planes, totals)
    kernels.pixel_sums(planes, totals, step.weights, sums)
    return sums


def read_sums(
    step: Step, inputs: UInt64[np.ndarray, "image array"], mode: Mode, keys: UInt64[np.ndarray, " image"]
) -> Int32[np.ndarray, "image column"]:
    """Sums over sub-arrays of what is read from each."""
    sums = np.empty((len(inputs), step.weights.shape[1]), np.int32)
    active, tables = step.mapping.active, step.tables
    if tables is None:
        kernels.ideal_sums(inputs, active, step.weights, sums)
    elif mode == "nominal":
        kernels.nominal_sums(inputs, active, step.weights, tables.start, tables.nominal, sums)
    else:
        kernels.iid_sums(inputs, active, step.weights, tables.start, tables.alias, keys, sums)
    return sums


def block_logits(
    program: Program, images: UInt8[np.ndarray, "image pixel"], first_image: int
) -> Float32[np.ndarray, "image logit"]:
    """Logits of images that fit in memory at once."""
    sums = run_block(program, images, first_image)[-1][0]
    scale = np.float32(2 ** program.steps[-1].fraction_bits)
    return program.output.apply(sums.astype(np.float32) / scale)


def _step(position: int, layer: DenseLayer, readouts: Readouts | None, rows: int) -> Step:
    pixels = layer.input == "pixels"
    mapping = map_inputs(layer.in_features, DEFAULT_ROWS if pixels else rows)
    if mapping.arrays > _ARRAYS_MAX:  # Sums of 16-bit centroids stay below 2**31.
        raise InputError(f"{mapping.arrays} sub-arrays are more than {_ARRAYS_MAX}", place=f"layer {layer.name}")
    tables = None if pixels or readouts is None else read_tables(readouts[layer.name], mapping)
    weights = np.ascontiguousarray(to_arrays(layer.packed, mapping).T)
    threshold = None
    if isinstance(layer.output, Threshold):
        direction = layer.output.direction.astype(np.int64)
        value = fixed_point(layer.output, layer.batch_norm, tables.fraction_bits if tables else 0)
        threshold = Threshold64(direction * value, direction)
    return Step(position, mapping, weights, tables, threshold, pixels)
