"""Slow, obvious NumPy twins of the kernels: values +1 and -1, one axis a meaning, no packing."""

from __future__ import annotations

from collections.abc import Mapping as ByRows
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Int64, UInt8, UInt64

from cosim.errors import InputError
from cosim.network.alias import alias_entries, slot_bits
from cosim.network.counter import GOLDEN, image_keys, mix
from cosim.network.fixed_point import fixed_point
from cosim.network.layers import Affine, DenseLayer, Network, Threshold
from cosim.network.mapping import DEFAULT_ROWS, Mapping, map_inputs
from cosim.network.readout import Readout, Readouts, check_readouts


@dataclass(frozen=True, slots=True, eq=False)
class LayerTrace:
    """What one layer computed.

    Attributes:
        sums: Sums over all sub-arrays times 2**fraction_bits, (image, column).
        fraction_bits: Position of the binary point of the sums.
        signs: The binary outputs +1 and -1, or None for the last layer; (image, column).
    """

    sums: Int32[np.ndarray, "image column"]
    fraction_bits: int
    signs: Int8[np.ndarray, "image column"] | None


def trace(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    mode: str,
    readouts: Readouts | None = None,
    *,
    seed: int = 0,
    first_image: int = 0,
    rows: int = DEFAULT_ROWS,
) -> tuple[Float32[np.ndarray, "image logit"], tuple[LayerTrace, ...]]:
    """Logits and every layer's sums and signs; arguments as in `cosim.network.inference.forward`."""
    if mode != "ideal":
        check_readouts(network, readouts or {}, rows)
    values = images.reshape(len(images), -1)
    numbers = np.arange(first_image, first_image + len(images), dtype=np.uint64)
    traces: list[LayerTrace] = []
    for position, layer in enumerate(network.layers):
        sums, fraction_bits = exact_sums(values, layer.weights), 0
        if layer.input == "binary" and mode != "ideal":
            by_n_active = (readouts or {})[layer.name]
            sums = read_sums(values, layer, by_n_active, mode, image_keys(seed, position, numbers), rows)
            fraction_bits = by_n_active[map_inputs(layer.in_features, rows).kinds[0]].fraction_bits
        signs = threshold_signs(sums, layer, fraction_bits) if isinstance(layer.output, Threshold) else None
        traces.append(LayerTrace(sums.astype(np.int32), fraction_bits, signs))
        values = values if signs is None else signs
    return logits(traces[-1], network.layers[-1]), tuple(traces)


def exact_sums(
    values: Int8[np.ndarray, "image row"] | UInt8[np.ndarray, "image row"],
    weights: Int8[np.ndarray, "column row"],
) -> Int64[np.ndarray, "image column"]:
    """The sums of products, in integers."""
    return values.astype(np.int64) @ weights.astype(np.int64).T


def minus_counts(
    signs: Int8[np.ndarray, "image row"], weights: Int8[np.ndarray, "column row"], mapping: Mapping
) -> Int64[np.ndarray, "image column array"]:
    """The number of rows whose product is -1, in every column of every sub-array."""
    products = signs[:, None, :] * weights[None, :, :]
    edges = np.arange(0, mapping.in_features, mapping.rows)
    return np.add.reduceat((products < 0).astype(np.int64), edges, axis=2)


def draw_codes(
    counts: Int64[np.ndarray, "image column array"],
    readouts: list[Readout],
    keys: UInt64[np.ndarray, " image"],
) -> Int64[np.ndarray, "image column array"]:
    """Centroids of codes drawn from P(code | count); one readout for each sub-array."""
    _, columns, arrays = counts.shape
    counter = np.arange(arrays)[None, :] * columns + np.arange(columns)[:, None] + 1
    words = mix(keys[:, None, None] + counter.astype(np.uint64) * GOLDEN)
    codes = max(readout.codes for readout in readouts)
    bits = np.uint64(slot_bits(codes))
    slots = words >> (np.uint64(64) - bits)
    fractions = (words << bits) >> np.uint64(32)
    drawn = np.empty(counts.shape, np.int64)
    for array, readout in enumerate(readouts):
        entries = alias_entries(readout.probability, readout.centroid, codes)
        entry = entries[counts[..., array], slots[..., array].astype(np.int64)]
        own = fractions[..., array] < (entry & np.uint64(0xFFFFFFFF))
        half = np.where(own, entry >> np.uint64(32), entry >> np.uint64(48))
        drawn[..., array] = half.astype(np.uint16).view(np.int16)
    return drawn


def read_sums(
    signs: Int8[np.ndarray, "image row"],
    layer: DenseLayer,
    by_n_active: ByRows[int, Readout],
    mode: str,
    keys: UInt64[np.ndarray, " image"],
    rows: int = DEFAULT_ROWS,
) -> Int64[np.ndarray, "image column"]:
    """The sums of what the readouts say, in fixed point."""
    mapping = map_inputs(layer.in_features, rows)
    counts = minus_counts(signs, layer.weights, mapping)
    readouts = [by_n_active[int(n)] for n in mapping.n_active]
    if mode == "iid":
        return draw_codes(counts, readouts, keys).sum(axis=2)
    if mode != "nominal":
        raise InputError(f"mode must be ideal, nominal or iid, got {mode!r}")
    read = [r.centroid[r.nominal[counts[..., array]]] for array, r in enumerate(readouts)]
    return np.stack(read, axis=2).sum(axis=2)


def threshold_signs(
    sums: Int64[np.ndarray, "image column"], layer: DenseLayer, fraction_bits: int
) -> Int8[np.ndarray, "image column"]:
    """+1 where direction * sum >= direction * value."""
    assert isinstance(layer.output, Threshold)
    direction = layer.output.direction.astype(np.int64)
    value = fixed_point(layer.output, layer.batch_norm, fraction_bits)
    on: Bool[np.ndarray, "image column"] = direction * sums >= direction * value
    return np.where(on, np.int8(1), np.int8(-1))


def logits(last: LayerTrace, layer: DenseLayer) -> Float32[np.ndarray, "image logit"]:
    """The last layer's affine map of the sums in MAC units."""
    if not isinstance(layer.output, Affine):
        raise InputError("the last layer needs an affine output")
    return layer.output.apply(last.sums.astype(np.float32) / np.float32(2**last.fraction_bits))
