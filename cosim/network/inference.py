"""Accuracy of a network whose partial sums are read exactly, without variation, or with fresh variation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int8, Int64, UInt8

from cosim.errors import InputError
from cosim.network import kernels
from cosim.network.layers import Network
from cosim.network.mapping import DEFAULT_ROWS, map_inputs
from cosim.network.packing import unpack_signs
from cosim.network.program import Mode, Program, block_logits, prepare, run_block
from cosim.network.readout import Readouts
from cosim.network.reference import LayerTrace
from cosim.resources import usable_cores
from cosim.stats import Estimate, proportion

T = TypeVar("T")

BLOCK_IMAGES = 64
"""Images in work at once on each thread; sets the memory, not the result."""


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
) -> Evaluation:
    """The network's accuracy on labelled images.

    A prediction depends on (seed, the image's number, its pixels) alone; the number is first_image + place.

    Args:
        network: The network.
        images: 8-bit images, (image, 28, 28) or (image, pixel).
        labels: The true classes, (image,).
        mode: "ideal", "nominal" or "iid".
        readouts: By layer name and number of active rows; needed in modes nominal and iid, not used in ideal.
        seed: 0 to 2**64 - 1.
        threads: Threads to use; all usable cores by default.
        first_image: Number of the first image, for evaluating a set in parts.
        rows: Rows of a sub-array, 1 to 64.

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
        partial_sums=len(wanted) * partial_sums_per_image(network, rows),
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
) -> Float32[np.ndarray, "image logit"]:
    """The logits of every image; arguments and errors as in `evaluate`."""
    pixels = _check_images(network, images, first_image)
    program = prepare(network, mode, readouts, seed, rows)
    logits = np.empty((len(pixels), network.classes), np.float32)

    def work(part: slice) -> None:
        logits[part] = block_logits(program, pixels[part], first_image + part.start)

    for _ in _over_blocks(work, len(pixels), threads):
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
) -> tuple[LayerTrace, ...]:
    """Every layer's sums and binary outputs; all images are held in memory at once."""
    pixels = _check_images(network, images, first_image)
    program = prepare(network, mode, readouts, seed, rows)
    blocks = run_block(program, pixels, first_image)
    signs = [_signs(program, i, blocks[i][1]) for i in range(len(blocks))]
    bits = [step.fraction_bits for step in program.steps]
    return tuple(LayerTrace(block[0], b, s) for block, b, s in zip(blocks, bits, signs, strict=True))


def partial_sum_histogram(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    *,
    threads: int | None = None,
    rows: int = DEFAULT_ROWS,
) -> dict[str, dict[int, Int64[np.ndarray, " count"]]]:
    """How often each count of product -1 occurs in ideal mode, over all images, columns and sub-arrays.

    Returns:
        By name of the binary layer, then by number of active rows: counts of 0..n_active, (count,).

    Raises:
        InputError: The images do not fit the network.
    """
    pixels = _check_images(network, images, 0)
    program = prepare(network, "ideal", None, 0, rows)

    def work(part: slice) -> list[Int64[np.ndarray, " entry"]]:
        return _block_histograms(program, pixels[part])

    total = [np.zeros(sum(n + 1 for n in step.mapping.kinds), np.int64) for step in program.steps if not step.pixels]
    for block in _over_blocks(work, len(pixels), threads):
        for into, added in zip(total, block, strict=True):
            into += added
    named = zip(network.binary_layers, total, strict=True)
    return {layer.name: _by_n_active(map_inputs(layer.in_features, rows).kinds, all_) for layer, all_ in named}


def partial_sums_per_image(network: Network, rows: int = DEFAULT_ROWS) -> int:
    """The number of sub-array columns that one image reads."""
    layers = network.binary_layers
    return sum(map_inputs(layer.in_features, rows).arrays * layer.out_features for layer in layers)


def _over_blocks(work: Callable[[slice], T], images: int, threads: int | None) -> Iterator[T]:
    """The results of `work` over blocks of images, in order; the kernels let threads run at once."""
    count = usable_cores() if threads is None else threads
    if count < 1:
        raise InputError(f"threads must be positive, got {threads}")
    parts = [slice(start, min(start + BLOCK_IMAGES, images)) for start in range(0, images, BLOCK_IMAGES)]
    if count == 1 or len(parts) == 1:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(work, parts)


def _block_histograms(program: Program, pixels: UInt8[np.ndarray, "image pixel"]) -> list[Int64[np.ndarray, " entry"]]:
    histograms: list[Int64[np.ndarray, " entry"]] = []
    blocks = run_block(program, pixels, 0)
    for step, (_, inputs) in zip(program.steps[1:], blocks, strict=False):
        assert inputs is not None
        kinds = np.array(step.mapping.kinds)
        starts = np.concatenate([[0], np.cumsum(kinds + 1)])
        start = starts[np.searchsorted(kinds, step.mapping.n_active)].astype(np.uint64)
        histogram = np.zeros(int(starts[-1]), np.int64)
        kernels.count_histogram(inputs, step.mapping.active, step.weights, start, histogram)
        histograms.append(histogram)
    return histograms


def _by_n_active(
    kinds: tuple[int, ...], histogram: Int64[np.ndarray, " entry"]
) -> dict[int, Int64[np.ndarray, " count"]]:
    edges = np.cumsum([n + 1 for n in kinds])[:-1]
    return dict(zip(kinds, np.split(histogram, edges), strict=True))


def _signs(program: Program, layer: int, packed: np.ndarray | None) -> Int8[np.ndarray, "image column"] | None:
    if packed is None:
        return None
    mapping = program.steps[layer + 1].mapping
    per_array = unpack_signs(packed[..., None], mapping.rows).reshape(len(packed), -1)
    return per_array[:, : mapping.in_features]


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
