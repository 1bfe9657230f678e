"""Which cells a network takes: sub-arrays, how full they are, and how often they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from cosim.errors import InputError
from cosim.network.layers import DenseLayer, Network
from cosim.network.layout import map_network, torch_order
from cosim.network.mapping import DEFAULT_ROWS, Mapping, Order, map_window

DEFAULT_COLUMNS = 64


@dataclass(frozen=True, slots=True, eq=False)
class LayerPartition:
    """The cells of one layer.

    Its weights fill `down` sub-arrays below each other, each with another part of the inputs, and `across` sub-arrays
    side by side, each with another part of the layer's columns.

    Attributes:
        layer: The layer's name.
        rows: Rows of one sub-array.
        columns: Columns of one sub-array.
        array: Sub-array, from the top, of every weight, (input,); inputs are numbered as in `DenseLayer.weights`.
        row: Row in that sub-array, (input,); the weights of layer column c are in column c % columns of sub-array
            c // columns from the left.
        down: Sub-arrays below each other.
        across: Sub-arrays side by side.
        utilisation: Share of the cells that hold a weight.
        row_utilisation: Share of the rows that hold a weight, the columns not counted.
        n_active: Rows that are on in a read, ascending; more than one number where sub-arrays are not full or lie
            in zero padding, or where inputs turn rows off.
        positions: Input vectors that one image sends through the layer, one for each bit of its activations.
        reads: Column reads of one image, at most: a sub-array whose rows are all off is not read.
        cycles: Steps that these take with every sub-array at work at once and its columns taking turns.
    """

    layer: str
    rows: int
    columns: int
    array: Int64[np.ndarray, " input"]
    row: Int64[np.ndarray, " input"]
    down: int
    across: int
    utilisation: float
    row_utilisation: float
    n_active: tuple[int, ...]
    positions: int
    reads: int
    cycles: int

    @property
    def arrays(self) -> int:
        """The number of sub-arrays."""
        return self.down * self.across

    @property
    def cells(self) -> int:
        """The number of cells, the unused ones included."""
        return self.arrays * self.rows * self.columns


def partition_report(
    network: Network,
    *,
    rows: int = DEFAULT_ROWS,
    columns: int = DEFAULT_COLUMNS,
    columns_per_amplifier: int = 1,
    order: Order = "flat",
) -> tuple[LayerPartition, ...]:
    """The cells of every layer that the circuit reads; a layer of pixels is digital and takes none.

    Args:
        network: The network.
        rows: Rows of one sub-array, 1 to 256.
        columns: Columns of one sub-array.
        columns_per_amplifier: Columns that share a sense amplifier and are read one after the other. Levels for each
            pair of bits need no amplifier more: columns of one bit of the weights lie side by side, and where those of
            two bits share one, its references are switched between their turns, as between bits of the activations.
        order: How convolutions lie in their rows, "flat" or "positions"; see `cosim.network.mapping.map_window`.

    Raises:
        InputError: A number is out of range, or columns is no multiple of columns_per_amplifier.
    """
    if columns < 1 or columns_per_amplifier < 1 or columns % columns_per_amplifier:
        raise InputError(
            f"columns must be a positive multiple of columns_per_amplifier, got {columns} and {columns_per_amplifier}"
        )
    mappings = map_network(network, rows, order)
    return tuple(
        _partition(layer, mappings[layer.name], rows, order, columns, columns_per_amplifier)
        for layer in network.binary_layers
    )


def _partition(layer: DenseLayer, read: Mapping, rows: int, order: Order, columns: int, turns: int) -> LayerPartition:
    """The cells of one layer; of a support, `read` has a block's rows and the blocks of a sub-array take turns."""
    mapping = map_window(read.window, rows, order)
    across, vectors = -(-layer.columns // columns), mapping.window.positions * layer.activation_bits
    in_order = torch_order(layer, mapping.window)
    row_utilisation = mapping.in_features / (mapping.arrays * mapping.rows)
    return LayerPartition(
        layer=layer.name,
        rows=mapping.rows,
        columns=columns,
        array=mapping.array[in_order],
        row=mapping.row[in_order],
        down=mapping.arrays,
        across=across,
        utilisation=row_utilisation * layer.columns / (across * columns),
        row_utilisation=row_utilisation,
        n_active=read.kinds,
        positions=vectors,
        reads=read.reads * layer.columns * layer.activation_bits,
        cycles=vectors * min(turns, layer.columns) * min(rows // read.rows, read.arrays),
    )
