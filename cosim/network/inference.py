"""Accuracy of a network whose partial sums are read exactly, without variation, or with fresh variation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt64

from cosim.errors import InputError
from cosim.network import kernels
from cosim.network.blocks import Output, block_logits, run_block
from cosim.network.layers import ConvLayer, DenseLayer, Network
from cosim.network.layout import Layout, lay_out, map_network, weights_by_bit
from cosim.network.levels import unpack_levels
from cosim.network.mapping import DEFAULT_ROWS, Order
from cosim.network.program import Mode, Program, prepare
from cosim.network.read_tables import table_starts
from cosim.network.readout import Readouts
from cosim.network.reference import LayerTrace
from cosim.resources import usable_cores
from cosim.stats import Estimate, proportion
from cosim.surrogate.calibration import LevelsPer, ReadKey, check_levels_per

T = TypeVar("T")

BLOCK_IMAGES = 64
"""Images in work at once on each thread, at most; sets the memory, not the result."""

BLOCK_BYTES = 2**21
"""What the largest layer of a block takes, at most, unless one image takes more: it stays in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a network got right.

    Attributes:
        accuracy: Share of right predictions with its 95 % interval (over images, not over dies).
        mode: How partial sums were read.
        seed: Of the draws; without effect in modes ideal and nominal.
        n: Number of images.
        predictions: Class of every image, (image,).
        confusion: Images by true class and predicted class, (label, prediction).
        partial_sums: Number of sub-array columns read.
        seconds: Wall time.
    """

    accuracy: Estimate
    mode: Mode
    seed: int
    n: int
    predictions: Int64[np.ndarray, " image"]
    confusion: Int64[np.ndarray, "label prediction"]
    partial_sums: int
    seconds: float


def evaluate(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    labels: np.ndarray,
    *,
    mode: Mode,
    readouts: Readouts | None = None,
    seed: int = 0,
    threads: int | None = None,
    first_image: int = 0,
    rows: int = DEFAULT_ROWS,
    order: Order = "flat",
) -> Evaluation:
    """The network's accuracy on labelled images.

    A prediction depends on (seed, the image's number, its pixels) alone; the number is first_image + place.

    Args:
        network: The network.
        images: 8-bit images, (image, *image_shape) or (image, pixel).
        labels: The true classes, (image,).
        mode: "ideal", "nominal" or "iid".
        readouts: By layer name and number of active rows; needed in modes nominal and iid, not used in ideal.
        seed: 0 to 2**64 - 1.
        threads: Threads to use; all usable cores by default.
        first_image: Number of the first image, for evaluating a set in parts.
        rows: Rows of a sub-array, 1 to 256.
        order: How convolutions lie in their rows, "flat" or "positions"; see `cosim.network.mapping.map_window`.

    Raises:
        InputError: Images, labels, readouts or another argument do not fit.
    """
    begin = time.perf_counter()
    _check_images(network, images, first_image)
    wanted = _check_labels(labels, len(images), network.classes)
    found = forward(
        network,
        images,
        mode=mode,
        readouts=readouts,
        seed=seed,
        threads=threads,
        first_image=first_image,
        rows=rows,
        order=order,
    ).argmax(axis=1)
    confusion = np.zeros((network.classes, network.classes), np.int64)
    np.add.at(confusion, (wanted, found), 1)
    return Evaluation(
        accuracy=proportion(int(np.trace(confusion)), len(wanted)),
        mode=mode,
        seed=seed,
        n=len(wanted),
        predictions=found.astype(np.int64),
        confusion=confusion,
        partial_sums=len(wanted) * partial_sums_per_image(network, rows, order),
        seconds=time.perf_counter() - begin,
    )


def forward(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    *,
    mode: Mode,
    readouts: Readouts | None = None,
    seed: int = 0,
    threads: int | None = None,
    first_image: int = 0,
    rows: int = DEFAULT_ROWS,
    order: Order = "flat",
) -> Float32[np.ndarray, "image logit"]:
    """The logits of every image; arguments and errors as in `evaluate`."""
    pixels = _check_images(network, images, first_image)
    program = prepare(network, mode, readouts, seed, rows, order)
    logits = np.empty((len(pixels), network.classes), np.float32)

    def work(part: slice) -> None:
        logits[part] = block_logits(program, pixels[part], first_image + part.start)

    for _ in _over_blocks(work, len(pixels), threads, program):
        pass
    return logits


def trace(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    *,
    mode: Mode,
    readouts: Readouts | None = None,
    seed: int = 0,
    first_image: int = 0,
    rows: int = DEFAULT_ROWS,
    order: Order = "flat",
) -> tuple[LayerTrace, ...]:
    """Every layer's sums and outputs as torch lays them out; all images are held in memory at once."""
    pixels = _check_images(network, images, first_image)
    program = prepare(network, mode, readouts, seed, rows, order)
    outputs = run_block(program, pixels, first_image)
    bits = [step.fraction_bits for step in program.steps]
    return tuple(_traced(each, layer, b) for each, layer, b in zip(outputs, network.layers, bits, strict=True))


def partial_sum_histogram(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    *,
    threads: int | None = None,
    rows: int = DEFAULT_ROWS,
    order: Order = "flat",
    levels_per: LevelsPer = "layer",
) -> dict[str, dict[ReadKey, Int64[np.ndarray, " count"]]]:
    """How often each count of product -1 occurs in ideal mode, over all images, columns and sub-arrays.

    Args:
        levels_per: "pair" counts each pair of bits on its own, in layers that have more than one.

    Returns:
        By name of the binary layer, then by number of active rows (and bit of the weights and of the activations):
        counts of 0..n_active, (count,).

    Raises:
        InputError: The images do not fit the network, or levels are per something else.
    """
    check_levels_per(levels_per)
    pixels = _check_images(network, images, 0)
    program = prepare(network, "ideal", None)
    mappings = map_network(network, rows, order)
    layouts = {layer.name: lay_out(layer, mappings[layer.name]) for layer in network.binary_layers}
    parts = {layer.name: weights_by_bit(layouts[layer.name], layer.weight_bits) for layer in network.binary_layers}

    def work(part: slice) -> list[Int64[np.ndarray, "pair entry"]]:
        return _block_histograms(program, layouts, parts, pixels[part])

    blocks = _over_blocks(work, len(pixels), threads, program)
    total = next(blocks)
    for block in blocks:
        for into, added in zip(total, block, strict=True):
            into += added
    return {
        layer.name: _by_key(layer, mappings[layer.name].kinds, each, levels_per)
        for layer, each in zip(network.binary_layers, total, strict=True)
    }


def partial_sums_per_image(network: Network, rows: int = DEFAULT_ROWS, order: Order = "flat") -> int:
    """The number of sub-array columns that one image reads; a sub-array whose rows are all off is not read."""
    mappings = map_network(network, rows, order)
    return sum(mappings[layer.name].reads * layer.columns * layer.activation_bits for layer in network.binary_layers)


def block_size(program: Program) -> int:
    """How many images are sent through the network at once."""
    return min(BLOCK_IMAGES, max(1, BLOCK_BYTES // program.bytes_per_image))


def _over_blocks(work: Callable[[slice], T], images: int, threads: int | None, program: Program) -> Iterator[T]:
    """The results of `work` over blocks of images, in order; the kernels let threads run at once."""
    count = usable_cores() if threads is None else threads
    if count < 1:
        raise InputError(f"threads must be positive, got {threads}")
    size = block_size(program)
    parts = [slice(start, min(start + size, images)) for start in range(0, images, size)]
    if count == 1 or len(parts) == 1:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(work, parts)


def _block_histograms(
    program: Program,
    layouts: dict[str, Layout],
    parts: dict[str, list[UInt64[np.ndarray, "line output"]]],
    pixels: UInt8[np.ndarray, "image pixel"],
) -> list[Int64[np.ndarray, "pair entry"]]:
    """The histograms of each layer, its pairs in the order of `DenseLayer.bit_pairs`."""
    histograms: list[Int64[np.ndarray, "pair entry"]] = []
    for step, output in zip(program.steps, run_block(program, pixels, 0), strict=True):
        if output.inputs is not None and step.layer.reads_circuit:
            layout = layouts[step.layer.name]
            mapping = layout.mapping
            lines = [layout.lines(plane) for plane in output.inputs]
            pairs = step.layer.bit_pairs
            histogram = np.zeros((len(pairs), sum(n + 1 for n in mapping.kinds)), np.int64)
            for into, (i, j) in zip(histogram, pairs, strict=True):
                about = (lines[j], mapping.kind, layout.active, parts[step.layer.name][i], mapping.on_off)
                kernels.count_histogram(*about, mapping.words, table_starts(mapping), into)
            histograms.append(histogram)
    return histograms


def _by_key(
    layer: DenseLayer, kinds: tuple[int, ...], histogram: Int64[np.ndarray, "pair entry"], levels_per: LevelsPer
) -> dict[ReadKey, Int64[np.ndarray, " count"]]:
    """A layer's histograms by number of active rows, of all pairs together or of each."""
    edges = np.cumsum([n + 1 for n in kinds])[:-1]
    if levels_per == "layer" or len(layer.bit_pairs) == 1:
        return dict(zip(kinds, np.split(histogram.sum(axis=0), edges), strict=True))
    of_pairs = [np.split(each, edges) for each in histogram]
    found: dict[ReadKey, Int64[np.ndarray, " count"]] = {}
    for pair, split in zip(layer.bit_pairs, of_pairs, strict=True):
        found |= {(n, *pair): each for n, each in zip(kinds, split, strict=True)}
    return found


def _traced(output: Output, layer: DenseLayer, fraction_bits: int) -> LayerTrace:
    signs = None if output.maps is None else unpack_levels(output.maps, layer.out_features)
    return LayerTrace(
        sums=_as_torch(output.sums, layer, layer.sums_size),
        fraction_bits=0 if output.sums.dtype == np.float32 else fraction_bits,
        signs=None if signs is None else _as_torch(signs, layer, layer.out_shape[1:]),
        reals=None if output.reals is None else _as_torch(output.reals, layer, layer.out_shape[1:]),
    )


def _as_torch(values: np.ndarray, layer: DenseLayer, size: tuple[int, ...]) -> np.ndarray:
    """(image, column, height, width), or (image, column) for a dense layer."""
    columns = np.ascontiguousarray(values.transpose(0, 2, 1))
    return columns.reshape(len(values), -1, *size) if isinstance(layer, ConvLayer) else columns[:, :, 0]


def _check_images(network: Network, images: np.ndarray, first_image: int) -> UInt8[np.ndarray, "image pixel"]:
    expected = tuple(network.image_shape)
    flat = (network.in_features,)
    if images.dtype != np.uint8 or images.shape[1:] not in (expected, flat) or not len(images):
        raise InputError(
            f"images must be uint8 of shape (image, {', '.join(map(str, expected))}) and not empty, "
            f"got {images.dtype.name} of shape {images.shape}"
        )
    if first_image < 0:
        raise InputError(f"first_image must not be negative, got {first_image}")
    return np.ascontiguousarray(images).reshape(len(images), -1)


def _check_labels(labels: np.ndarray, images: int, classes: int) -> Int64[np.ndarray, " image"]:
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise InputError(f"labels must be {images} integers, got {labels.dtype.name} of shape {labels.shape}")
    if np.any(labels < 0) or np.any(labels >= classes):
        raise InputError(f"labels must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)
