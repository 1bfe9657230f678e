"""Slow, obvious NumPy twins of the kernels: values +1, -1 and 0 (a row that is off), one axis a meaning, no packing."""

from __future__ import annotations

from collections.abc import Mapping as ByRows
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Int64, Integer, Shaped, UInt8, UInt16, UInt32, UInt64

from cosim.errors import InputError
from cosim.network.alias import alias_entries, slot_bits
from cosim.network.counter import column_words, image_keys, later_keys, read_keys
from cosim.network.cumulative import compares, cumulative_thresholds, draws
from cosim.network.fixed_point import output_steps
from cosim.network.layers import Affine, ConvLayer, DenseLayer, Network, Residual
from cosim.network.layout import map_network
from cosim.network.levels import level_steps
from cosim.network.mapping import DEFAULT_ROWS, Mapping, Order
from cosim.network.readout import LayerReadouts, Readout, Readouts, check_readouts
from cosim.network.real_reference import input_scales, pooled, real_sums
from cosim.network.window import Window
from cosim.surrogate.calibration import by_pair


@dataclass(frozen=True, slots=True, eq=False)
class LayerTrace:
    """What one layer computed; a map as torch lays it out, (image, column, height, width) for "image column *map".

    Attributes:
        sums: Sums over all sub-arrays times 2**fraction_bits, after a pooling of the sums (an average as its total);
            real sums where the weights are real.
        fraction_bits: Position of the binary point of the sums.
        signs: The binary outputs +1 and -1 after the pooling, odd integers where they have several bits; None for the
            last layer.
        reals: The real outputs after the pooling, where the layer has such.
    """

    sums: Int32[np.ndarray, "image column *map"] | Float32[np.ndarray, "image column *map"]
    fraction_bits: int
    signs: Int8[np.ndarray, "image column *pooled"] | None
    reals: Float32[np.ndarray, "image column *pooled"] | None = None


def trace(
    network: Network,
    images: UInt8[np.ndarray, "image ..."],
    mode: str,
    readouts: Readouts | None = None,
    *,
    seed: int = 0,
    first_image: int = 0,
    rows: int = DEFAULT_ROWS,
    order: Order = "flat",
) -> tuple[Float32[np.ndarray, "image logit"], tuple[LayerTrace, ...]]:
    """Logits and every layer's sums and outputs; arguments as in `cosim.network.inference.forward`."""
    mappings = map_network(network, rows, order)
    if mode != "ideal":
        check_readouts(network, readouts or {}, mappings)
    numbers = np.arange(first_image, first_image + len(images), dtype=np.uint64)
    traces: list[LayerTrace] = []
    for position, layer in enumerate(network.layers):
        window, planes = network.window(position), bit_planes(layer_inputs(network, position, images, traces), layer)
        sums, fraction_bits = digital_sums(layer, planes, window), 0
        if layer.reads_circuit and mode != "ideal":
            mapping, of_layer = mappings[layer.name], (readouts or {})[layer.name]
            keys = image_keys(seed, position, numbers)
            sums = read_sums(layer, [patches(each, window) for each in planes], mapping, of_layer, mode, keys)
            fraction_bits = next(iter(of_layer.values())).fraction_bits
        fraction_bits += 0 if layer.support is None else layer.support.fraction_bits
        if layer.scale_inputs:
            reals = traces[network.source(position)].reals
            assert reals is not None
            scales = input_scales(reals.reshape(len(images), *window.in_shape), window)
            mac = sums.astype(np.float32) / np.float32(2**fraction_bits)
            sums, fraction_bits = mac * scales[:, :, None], 0
        columns = np.moveaxis(sums, 2, 1)
        size = layer.window.out_size if isinstance(layer, ConvLayer) else ()
        shortcut = network.shortcut(position)
        added = None if shortcut is None else traces[shortcut].reals
        traces.append(_finish(layer, columns.reshape(len(images), -1, *size), fraction_bits, added))
    return logits(traces[-1], network.layers[-1]), tuple(traces)


def digital_sums(
    layer: DenseLayer, planes: list[Shaped[np.ndarray, "image channel height width"]], window: Window
) -> Shaped[np.ndarray, "image position column"]:
    """The exact sums, or those with real weights."""
    if layer.real_weights is None:
        weights = window_weights(layer, layer.weights, window) * factors(layer)
        return exact_sums(patches(added_up(planes), window, 2 ** len(planes) - 1), weights)
    if isinstance(layer, ConvLayer):
        return real_sums(patches(added_up(planes), window, 2 ** len(planes) - 1), layer.real_weights)
    return real_sums(added_up(planes).reshape(len(planes[0]), 1, -1), layer.real_weights)


def read_sums(
    layer: DenseLayer,
    planes: list[Int64[np.ndarray, "image position input"]],
    mapping: Mapping,
    readouts: LayerReadouts,
    mode: str,
    keys: UInt64[np.ndarray, " image"],
) -> Int64[np.ndarray, "image position output"]:
    """What the readouts say, every bit of the inputs with every bit of the weights, added with what they are worth.

    With levels for each pair of bits the columns of every bit of the weights are read, and drawn, on their own.
    """
    signs = window_weights(layer, layer.signs, mapping.window)
    supports = 1 if layer.support is None else layer.support.value.T
    sets = by_pair(readouts)
    parts = [signs] if None in sets else np.split(signs, layer.weight_bits)
    read: list[Int64[np.ndarray, "image position output"]] = []
    for bit, plane in enumerate(planes):
        columns: list[Int64[np.ndarray, "image position column"]] = []
        for number, part in enumerate(parts):
            drawn = later_keys(keys, (bit * len(parts) + number) * mapping.window.positions * mapping.arrays)
            by_n_active = sets[None if None in sets else (number, bit)]
            arrays = read_arrays(plane, part, mapping, by_n_active, mode, drawn)
            columns.append((arrays * supports).sum(axis=3))
        by_bit = np.split(np.concatenate(columns, axis=2), layer.weight_bits, axis=2)
        read.append(added_up(by_bit))
    return added_up(read)


def patches(
    values: Shaped[np.ndarray, "image channel height width"], window: Window, most: int = 1
) -> Shaped[np.ndarray, "image position input"]:
    """The inputs of every position, kernel position first; padding holds the window's pad value times the most."""
    (down, right), (tall, wide) = window.padding, window.kernel
    border = [(0, 0), (0, 0), (down, down), (right, right)]
    values = values if values.dtype == np.float32 else values.astype(np.int64)
    padded = np.pad(values, border, constant_values=values.dtype.type(window.pad_value * most))
    found: list[Shaped[np.ndarray, "image input"]] = []
    for y in range(0, window.out_size[0] * window.stride[0], window.stride[0]):
        for x in range(0, window.out_size[1] * window.stride[1], window.stride[1]):
            part = padded[:, :, y : y + tall, x : x + wide]
            found.append(part.transpose(0, 2, 3, 1).reshape(len(values), -1))
    return np.stack(found, axis=1)


def window_weights(
    layer: DenseLayer, values: Integer[np.ndarray, "column input"], window: Window
) -> Int64[np.ndarray, "column input"]:
    """A layer's weights or signs with inputs numbered as in `patches`."""
    weights = values.astype(np.int64)
    if isinstance(layer, ConvLayer):
        return weights
    return weights.reshape(-1, window.channels, window.taps).transpose(0, 2, 1).reshape(weights.shape)


def factors(layer: DenseLayer) -> Int64[np.ndarray, "column input"] | int:
    """A layer's support, one factor a weight."""
    if layer.support is None:
        return 1
    return layer.support.value.repeat(layer.support.block, axis=0)[: layer.in_features].T.astype(np.int64)


def exact_sums(
    seen: Int64[np.ndarray, "image position input"], weights: Int64[np.ndarray, "column input"]
) -> Int64[np.ndarray, "image position column"]:
    """The sums of products, in integers."""
    return seen @ weights.T


def minus_counts(
    seen: Shaped[np.ndarray, "image position input"], weights: Shaped[np.ndarray, "column input"], mapping: Mapping
) -> Int64[np.ndarray, "image position column array"]:
    """The number of rows whose product is -1, in every column of every sub-array."""
    counts = np.zeros((*seen.shape[:2], len(weights), mapping.arrays), np.int64)
    for array in range(mapping.arrays):
        here = mapping.array == array
        products = seen[:, :, None, here] * weights[:, here]
        counts[..., array] = (products < 0).sum(axis=3)
    return counts


def draw_codes(
    counts: Int64[np.ndarray, "image position column array"],
    on: Int64[np.ndarray, "image position array"],
    by_n_active: ByRows[int, Readout],
    mapping: Mapping,
    keys: UInt64[np.ndarray, " image"],
) -> Int64[np.ndarray, "image position column array"]:
    """Centroids of codes drawn from P(code | count) of the number of rows that are on; 0 where none is."""
    _, positions, columns, arrays = counts.shape
    reads = np.arange(positions * arrays, dtype=np.uint64).reshape(positions, arrays)
    words = column_words(read_keys(keys, reads), columns)
    codes = max(by_n_active[n].codes for n in mapping.kinds)
    if compares(mapping.rows, codes):
        chosen = draws(words[..., : -(-columns // 2)], columns).transpose(0, 1, 3, 2)
    else:
        chosen = words.transpose(0, 1, 3, 2)
    drawn = np.zeros(counts.shape, np.int64)
    for n in np.unique(on[on > 0]):
        at = np.broadcast_to((on == n)[:, :, None], counts.shape)
        readout = by_n_active[int(n)]
        draw = codes_of_draws if compares(mapping.rows, codes) else alias_draws
        drawn[at] = draw(readout, counts[at], chosen[at], codes)
    return drawn


def codes_of_draws(
    readout: Readout, counts: Int64[np.ndarray, " read"], chosen: UInt16[np.ndarray, " read"], codes: int
) -> Int64[np.ndarray, " read"]:
    """Centroids by comparing 16-bit draws with cumulative probabilities."""
    reached = chosen[:, None] >= cumulative_thresholds(readout.probability)[counts]
    return readout.centroid[reached.sum(axis=1)].astype(np.int64)


def alias_draws(
    readout: Readout, counts: Int64[np.ndarray, " read"], chosen: UInt32[np.ndarray, " read"], codes: int
) -> Int64[np.ndarray, " read"]:
    """Centroids from alias tables: the top bits of a word are the slot, the others the fraction."""
    bits = np.uint32(slot_bits(codes))
    slots, fractions = chosen >> (np.uint32(32) - bits), chosen << bits
    entry = alias_entries(readout.probability, readout.centroid, codes)[counts, slots.astype(np.int64)]
    own = fractions < (entry & np.uint64(0xFFFFFFFF))
    half = np.where(own, entry >> np.uint64(32), entry >> np.uint64(48))
    return half.astype(np.uint16).view(np.int16).astype(np.int64)


def read_arrays(
    seen: Int64[np.ndarray, "image position input"],
    weights: Int64[np.ndarray, "column input"],
    mapping: Mapping,
    by_n_active: ByRows[int, Readout],
    mode: str,
    keys: UInt64[np.ndarray, " image"],
) -> Int64[np.ndarray, "image position column array"]:
    """What the readouts say, in fixed point; the rows that are on are those whose input is not 0."""
    counts = minus_counts(seen, weights, mapping)
    on = np.stack([(seen != 0)[:, :, mapping.array == a].sum(axis=2) for a in range(mapping.arrays)], axis=2)
    if mode == "iid":
        return draw_codes(counts, on, by_n_active, mapping, keys)
    if mode != "nominal":
        raise InputError(f"mode must be ideal, nominal or iid, got {mode!r}")
    read = np.zeros(counts.shape, np.int64)
    for n in np.unique(on[on > 0]):
        at = np.broadcast_to((on == n)[:, :, None], counts.shape)
        readout = by_n_active[int(n)]
        read[at] = readout.centroid[readout.nominal[counts[at]]]
    return read


def threshold_signs(
    sums: Int64[np.ndarray, "image column *map"], layer: DenseLayer, fraction_bits: int
) -> Int8[np.ndarray, "image column *map"]:
    """+1 where direction * sum >= direction * value, else -1; added over the steps of a quantizer."""
    assert not isinstance(layer.output, Affine | Residual)
    shape = (-1,) + (1,) * (sums.ndim - 2)
    direction = layer.output.direction.astype(np.int64).reshape(shape)
    total = np.zeros(sums.shape, np.int8)
    for value in output_steps(layer, fraction_bits):
        on: Bool[np.ndarray, "image column *map"] = direction * sums >= direction * value.reshape(shape)
        total += np.where(on, np.int8(1), np.int8(-1))
    return total


def bit_planes(
    values: Shaped[np.ndarray, "image channel height width"], layer: DenseLayer
) -> list[Shaped[np.ndarray, "image channel height width"]]:
    """The bits of binary inputs, the lowest first: +1 and -1, or 1 and 0; other inputs as they are."""
    if layer.input not in ("binary", "on_off"):
        return [values]
    level = (values.astype(np.int64) + 2**layer.activation_bits - 1) // 2
    bits = [level >> bit & 1 for bit in range(layer.activation_bits)]
    return bits if layer.input == "on_off" else [2 * bit - 1 for bit in bits]


def added_up(bits: list[np.ndarray]) -> np.ndarray:
    """What bits are worth together, each twice the one before it."""
    total = bits[0]
    for number, bit in enumerate(bits[1:], start=1):
        total = total + bit * 2**number
    return total


def residual_reals(
    sums: Shaped[np.ndarray, "image column *map"],
    output: Residual,
    fraction_bits: int,
    shortcut: Float32[np.ndarray, "image column *map"] | None,
    taps: int = 1,
) -> Float32[np.ndarray, "image column *map"]:
    """hard_tanh(sum * scale + offset + shortcut), one float32 rounding an operation."""
    shape = (-1,) + (1,) * (sums.ndim - 2)
    mac = sums.astype(np.float32) / np.float32(2**fraction_bits) / np.float32(taps)
    reals = mac * output.scale.reshape(shape) + output.offset.reshape(shape)
    if shortcut is not None:
        reals = reals + shortcut
    return np.clip(reals, np.float32(-1), np.float32(1)) if output.hard_tanh else reals


def logits(last: LayerTrace, layer: DenseLayer) -> Float32[np.ndarray, "image logit"]:
    """The last layer's affine map of the sums in MAC units."""
    if not isinstance(layer.output, Affine):
        raise InputError("the last layer needs an affine output")
    sums = last.sums.reshape(len(last.sums), -1)
    return layer.output.apply(sums.astype(np.float32) / np.float32(2**last.fraction_bits) / np.float32(layer.sum_taps))


def layer_inputs(
    network: Network, position: int, images: UInt8[np.ndarray, "image ..."], traces: Sequence[LayerTrace]
) -> Shaped[np.ndarray, "image channel height width"]:
    """What the layer at a position takes: pixels, numbers, signs or odd integers."""
    window = network.window(position)
    if position == 0:
        values = images.astype(np.int64)
        if network.pixel_threshold is not None:
            values = np.where(values >= network.pixel_threshold, 1, -1)
    else:
        before = traces[network.source(position)]
        layer = network.layers[position]
        values = before.reals if layer.input == "real" else before.signs
        if layer.input != "real" and layer.activation_bits > 1 and before.reals is not None:
            steps = level_steps(layer.activation_bits)
            values = 2 * (before.reals[..., None] >= steps).sum(axis=-1) - len(steps)
        assert values is not None
    if position == 0 and isinstance(network.layers[0], ConvLayer):
        channels, height, width = window.in_shape
        return values.reshape(len(images), height, width, channels).transpose(0, 3, 1, 2)
    return values.reshape(len(images), *window.in_shape)


def _finish(
    layer: DenseLayer,
    sums: Shaped[np.ndarray, "image column *map"],
    fraction_bits: int,
    shortcut: Float32[np.ndarray, "image column *map"] | None,
) -> LayerTrace:
    sums = pooled(sums, layer, "sums")
    kept = sums if sums.dtype == np.float32 else sums.astype(np.int32)
    if isinstance(layer.output, Affine):
        return LayerTrace(kept, fraction_bits, None)
    if isinstance(layer.output, Residual):
        outputs = residual_reals(sums, layer.output, fraction_bits, shortcut, layer.sum_taps)
    else:
        outputs = threshold_signs(sums, layer, fraction_bits)
        if not layer.gives_reals:
            return LayerTrace(kept, fraction_bits, pooled(outputs, layer, "outputs"))
        outputs = outputs.astype(np.float32)
    reals = pooled(outputs, layer, "outputs")
    return LayerTrace(kept, fraction_bits, np.where(reals >= 0, np.int8(1), np.int8(-1)), reals)
