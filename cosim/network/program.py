"""A network laid out for the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64

from cosim.errors import InputError
from cosim.network.binary_layers import ConvLayer, DenseLayer
from cosim.network.counter import image_keys
from cosim.network.cumulative import in_blocks
from cosim.network.fixed_point import output_steps
from cosim.network.layers import Affine, Network, Quantizer, Threshold
from cosim.network.layout import Layout, lay_out, map_exact, map_network, torch_order, weights_by_bit
from cosim.network.mapping import DEFAULT_ROWS, Mapping, Order
from cosim.network.read_tables import ReadTables, read_tables
from cosim.network.readout import LayerReadouts, Readouts, check_readouts
from cosim.surrogate.calibration import by_pair

Mode = Literal["ideal", "nominal", "iid"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Thresholds at the sums' binary point: on where low <= sum <= high; one a column, or one a step of a quantizer."""

    low: Int32[np.ndarray, "*step column"]
    high: Int32[np.ndarray, "*step column"]


@dataclass(frozen=True, slots=True, eq=False)
class RealWeights:
    """Real weights as the kernels take them.

    Attributes:
        weights: In float64, (input, column).
        tap: Kernel position that each input sees.
        channel: Its channel.
    """

    weights: Float64[np.ndarray, "input column"]
    tap: Int64[np.ndarray, " input"]
    channel: Int64[np.ndarray, " input"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Columns of one layer that are read with the same levels: all, or those of one bit of the weights.

    Attributes:
        weights: Their weights, (line, column).
        tables: Look-up tables for each bit of the activations; none where sums are exact.
        blocks: The weights in blocks of columns, where codes are drawn for many columns at once.
    """

    weights: UInt64[np.ndarray, "line column"]
    tables: tuple[ReadTables, ...] = ()
    blocks: UInt64[np.ndarray, "line padded"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One layer as the kernels take it.

    Attributes:
        position: The layer's place in the network, part of the random key.
        layer: The layer.
        source: The position of the layer that it takes its inputs from; IMAGE for the first.
        shortcut: The position of the layer whose real output is added.
        layout: Its weights in their sub-arrays.
        parts: The same columns as they are read: all at once, or bit of the weights by bit, the lowest first.
        bounds: The threshold, or None where the output is real.
        pool_of_sums: What each window of a pooling of the sums sees, (place, tap).
        pool_of_outputs: The same for a pooling of the outputs.
        average: Whether the pooling averages.
        real: Real weights, if it has such.
    """

    position: int
    layer: DenseLayer
    source: int
    shortcut: int | None
    layout: Layout
    parts: tuple[Part, ...]
    bounds: Bounds | None
    pool_of_sums: Int64[np.ndarray, "place tap"] | None
    pool_of_outputs: Int64[np.ndarray, "place tap"] | None
    average: bool
    real: RealWeights | None

    @property
    def fraction_bits(self) -> int:
        """The position of the binary point of the sums."""
        return _fraction_bits(self.layer, self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A network prepared for one mode.

    Attributes:
        network: The network.
        steps: One a layer.
        output: The map from the last sums to logits.
        mode: How partial sums are read.
        seed: Of the draws in mode iid.
    """

    network: Network
    steps: tuple[Step, ...]
    output: Affine
    mode: Mode
    seed: int

    @property
    def bytes_per_image(self) -> int:
        """What the largest layer's arrays take for one image."""
        return max(
            step.layout.mapping.window.positions
            * (
                8 * step.layer.columns
                + 8 * len(step.layout.weights)
                + (0 if step.real is None else 4 * len(step.real.tap))
            )
            for step in self.steps
        )


def prepare(
    network: Network,
    mode: Mode,
    readouts: Readouts | None,
    seed: int = 0,
    rows: int = DEFAULT_ROWS,
    order: Order = "flat",
) -> Program:
    """The network laid out for the kernels.

    Raises:
        InputError: Unknown mode, readouts missing or of the wrong shape, seed or rows out of range.
    """
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    mappings = map_network(network, rows, order)
    if mode != "ideal":
        if readouts is None:
            raise InputError(f"mode {mode} needs readouts", hint="make them from a surrogate, or use mode ideal")
        check_readouts(network, readouts, mappings)
    image_keys(seed, 0, np.zeros(1, np.uint64))  # Refuses a wrong seed before any work.
    output = network.layers[-1].output
    assert isinstance(output, Affine)  # Network has checked it.
    steps = tuple(_step(network, i, mode, readouts or {}, mappings) for i in range(len(network.layers)))
    return Program(network, steps, output, mode, seed)


def _step(network: Network, position: int, mode: Mode, readouts: Readouts, mappings: dict[str, Mapping]) -> Step:
    layer = network.layers[position]
    mapping = map_exact(network, position)
    if mode != "ideal" and layer.reads_circuit:
        mapping = mappings[layer.name]
        layout = lay_out(layer, mapping)
        parts = _parts(layer, layout, readouts[layer.name], mode)
    else:
        layout = lay_out(layer, mapping)
        parts = (Part(layout.weights),)
    pool = layer.pool if isinstance(layer, ConvLayer) else None
    windows = {pool.of: pool.window(*mapping.window.out_size).pixels()} if pool else {}
    return Step(
        position=position,
        layer=layer,
        source=network.source(position),
        shortcut=network.shortcut(position),
        layout=layout,
        parts=parts,
        bounds=_bounds(layer, _fraction_bits(layer, parts)),
        pool_of_sums=windows.get("sums"),
        pool_of_outputs=windows.get("outputs"),
        average=pool is not None and pool.kind == "average",
        real=_real_weights(layer, mapping),
    )


def _parts(
    layer: DenseLayer, layout: Layout, readouts: LayerReadouts, mode: Literal["nominal", "iid"]
) -> tuple[Part, ...]:
    """A layer's columns with the tables that they are read with."""
    sets = by_pair(readouts)
    if None in sets:
        return (_part(layout.weights, (read_tables(sets[None], layout.mapping, mode),) * layer.activation_bits),)
    made = {pair: read_tables(each, layout.mapping, mode) for pair, each in sets.items()}
    by_bit = weights_by_bit(layout, layer.weight_bits)
    bits = range(layer.activation_bits)
    return tuple(_part(weights, tuple(made[i, j] for j in bits)) for i, weights in enumerate(by_bit))


def _part(weights: UInt64[np.ndarray, "line column"], tables: tuple[ReadTables, ...]) -> Part:
    wide = any(each.thresholds is not None and each.thresholds.wide is not None for each in tables)
    return Part(weights, tables, in_blocks(weights) if wide else None)


def _real_weights(layer: DenseLayer, mapping: Mapping) -> RealWeights | None:
    if layer.real_weights is None:
        return None
    tap, channel = np.divmod(torch_order(layer, mapping.window), mapping.window.channels)
    return RealWeights(np.ascontiguousarray(layer.real_weights.T.astype(np.float64)), tap, channel)


def _fraction_bits(layer: DenseLayer, parts: tuple[Part, ...]) -> int:
    tables = parts[0].tables
    return (tables[0].fraction_bits if tables else 0) + (layer.support.fraction_bits if layer.support else 0)


def _bounds(layer: DenseLayer, fraction_bits: int) -> Bounds | None:
    """The sums that give +1, or reach a level, as intervals of the 32-bit integers."""
    if not isinstance(layer.output, Threshold | Quantizer):
        return None
    limit = np.iinfo(np.int32)
    direction = layer.output.direction
    value = output_steps(layer, fraction_bits).clip(limit.min, limit.max)
    value = value[0] if isinstance(layer.output, Threshold) else value
    low = np.where(direction > 0, value, limit.min)
    high = np.where(direction < 0, value, limit.max)
    return Bounds(low.astype(np.int32), high.astype(np.int32))
