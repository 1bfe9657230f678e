"""A layer's weights and inputs laid out in sub-arrays, as the kernels take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt64

from cosim.errors import InputError
from cosim.network import map_kernels
from cosim.network.binary_layers import ConvLayer, DenseLayer
from cosim.network.layers import Network
from cosim.network.mapping import (
    DEFAULT_ROWS,
    Mapping,
    Order,
    Runs,
    map_window,
    moves_nothing,
    runs,
    to_arrays,
)
from cosim.network.packing import aligned, pack_bits, unpack_bits
from cosim.network.window import Window

ARRAYS_MAX = 2**15
"""Sub-arrays below each other, at most: sums of that many 16-bit centroids stay below 2**31."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One layer in its sub-arrays; a line is one word of all words of all sub-arrays.

    Attributes:
        mapping: Which cell every weight sits in.
        pixels: What each kernel position sees, (position, tap).
        runs: How inputs are moved; None where a map is its own layout.
        active: Rows that are on, (kind, line).
        weights: Weights, (line, column).
    """

    mapping: Mapping
    pixels: Int64[np.ndarray, "position tap"]
    runs: Runs | None
    active: UInt64[np.ndarray, "kind line"]
    weights: UInt64[np.ndarray, "line column"]

    def lines(self, maps: UInt64[np.ndarray, "image pixel word"]) -> UInt64[np.ndarray, "patch line"]:
        """The inputs of every position of every image."""
        lines = self.weights.shape[0]
        if self.runs is None:
            return np.ascontiguousarray(maps).reshape(-1, lines)
        laid_out = np.empty((len(maps) * self.mapping.window.positions, lines), np.uint64)
        padding = np.uint64(2**64 - 1 if self.mapping.window.pad_value == 1 else 0)
        r = self.runs
        map_kernels.gather(maps, self.pixels, padding, r.tap, r.word, r.shift, r.mask, r.line, r.to, laid_out)
        return laid_out


def map_network(network: Network, rows: int, order: Order = "flat") -> dict[str, Mapping]:
    """Where the weights of each binary layer sit, by the layer's name.

    Raises:
        InputError: rows is not in 1..256, there is no such order, or a layer takes more than 2**15 sub-arrays.
    """
    mappings: dict[str, Mapping] = {}
    for position, layer in enumerate(network.layers):
        if layer.reads_circuit:
            try:
                mappings[layer.name] = _map_layer(layer, network.window(position), rows, order)
            except InputError as error:
                raise InputError(error.message, place=error.place or f"layer {layer.name}", hint=error.hint) from None
    return mappings


def map_exact(network: Network, position: int) -> Mapping:
    """A mapping for exact sums, which do not depend on it: sub-arrays of 64 rows, or of a block of a support."""
    layer = network.layers[position]
    rows = DEFAULT_ROWS if layer.support is None else layer.support.block
    return map_window(network.window(position), rows, on_off=layer.input == "on_off")


def _map_layer(layer: DenseLayer, window: Window, rows: int, order: Order) -> Mapping:
    mapping = map_window(window, rows, order, on_off=layer.input == "on_off")
    largest = (1 << (layer.weight_bits - 1)) * layer.sum_taps
    if layer.support is not None:
        block, largest = layer.support.block, int(layer.support.value.max()) * layer.sum_taps
        if rows % block:
            raise InputError(f"a support of blocks of {block} needs sub-arrays of a multiple of it, got {rows} rows")
        if order != "flat" and mapping.arrays > 1:
            raise InputError(f"a support needs the row order flat, got {order}")
        mapping = map_window(window, block, on_off=layer.input == "on_off")
    largest *= 2**layer.activation_bits - 1
    if mapping.arrays * largest > ARRAYS_MAX:
        factors = "" if largest == 1 else f" with weights, activations or supports up to {largest}"
        raise InputError(f"{mapping.arrays} sub-arrays{factors} are more than {ARRAYS_MAX // largest}")
    return mapping


def lay_out(layer: DenseLayer, mapping: Mapping) -> Layout:
    """A layer in the sub-arrays of a mapping of its window."""
    window = mapping.window
    weights = to_arrays(window_order(layer, window), mapping).reshape(layer.columns, -1)
    by_line = aligned(weights.T.shape, np.uint64)
    by_line[:] = weights.T
    return Layout(
        mapping=mapping,
        pixels=window.pixels(),
        runs=None if moves_nothing(mapping) else runs(mapping),
        active=mapping.active.reshape(len(mapping.active), -1),
        weights=by_line,
    )


def weights_by_bit(layout: Layout, bits: int) -> list[UInt64[np.ndarray, "line output"]]:
    """A layer's weights bit by bit, the lowest first, each of as many columns as the layer has outputs."""
    found: list[UInt64[np.ndarray, "line output"]] = []
    for columns in np.split(layout.weights, bits, axis=1):
        found.append(aligned(columns.shape, np.uint64))
        found[-1][:] = columns
    return found


def window_order(layer: DenseLayer, window: Window) -> UInt64[np.ndarray, "column word"]:
    """The packed weights with inputs numbered as in the window: kernel position first.

    A dense layer after a map numbers its inputs channel by channel, as torch flattens a map.
    """
    if isinstance(layer, ConvLayer) or window.taps == 1:
        return layer.packed
    bits = unpack_bits(layer.packed, layer.in_features).reshape(layer.columns, window.channels, window.taps)
    return pack_bits(bits.transpose(0, 2, 1).reshape(layer.columns, -1))


def torch_order(layer: DenseLayer, window: Window) -> Int64[np.ndarray, " input"]:
    """The window's number of each of the layer's inputs: `window_order` for numbers instead of bits."""
    numbers = np.arange(window.in_features)
    if isinstance(layer, ConvLayer) or window.taps == 1:
        return numbers
    return numbers.reshape(window.taps, window.channels).T.reshape(-1)
