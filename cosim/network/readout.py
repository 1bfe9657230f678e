"""How a partial sum is read: counts become codes, codes become numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64

from cosim.errors import InputError
from cosim.network.layers import DenseLayer, Network
from cosim.network.mapping import Mapping as RowMapping
from cosim.surrogate.calibration import Pair, ReadKey, by_pair

CENTROID_MAX = 2**15 - 1
_SUM_TOLERANCE = 1e-6  # Rounding of 65 summed float32 probabilities is below this.


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """What a column with a given number of active rows reads, for every count of rows that pull BL down.

    Attributes:
        probability: P(code | count), (count, code); a fresh column and offset at every read.
        nominal: The code without variation, (count,).
        centroid: The partial sum that a code stands for, in MAC units times 2**fraction_bits, (code,);
            magnitude at most 32767, so 8 fraction bits for 64 rows and 6 for 256.
        fraction_bits: Position of the binary point in `centroid`.
    """

    probability: Float64[np.ndarray, "count code"]
    nominal: Int64[np.ndarray, " count"]
    centroid: Int32[np.ndarray, " code"]
    fraction_bits: int

    def __post_init__(self) -> None:
        """Refuse tables that do not fit each other.

        Raises:
            InputError: Naming the table.
        """
        counts, codes = _table_shape(self.probability)
        _check_probability(self.probability)
        if self.nominal.shape != (counts,) or self.nominal.dtype.kind not in "iu":
            raise InputError(f"nominal must hold {counts} codes, one a count, got shape {self.nominal.shape}")
        if np.any(self.nominal < 0) or np.any(self.nominal >= codes):
            raise InputError(f"nominal codes must be 0 to {codes - 1}")
        if self.centroid.shape != (codes,) or self.centroid.dtype.kind not in "iu":
            raise InputError(f"centroid must hold {codes} integers, one a code, got shape {self.centroid.shape}")
        if np.any(np.abs(self.centroid.astype(np.int64)) > CENTROID_MAX):
            raise InputError(f"centroids must lie within +-{CENTROID_MAX}", hint="use fewer fraction bits")
        if not 0 <= self.fraction_bits <= 15:
            raise InputError(f"fraction_bits must be 0 to 15, got {self.fraction_bits}")

    @property
    def codes(self) -> int:
        """The number of codes."""
        return len(self.centroid)

    @property
    def n_active(self) -> int:
        """The number of active rows that the tables are for."""
        return len(self.nominal) - 1


LayerReadouts = Mapping[int, Readout] | Mapping[ReadKey, Readout]
"""One layer's readouts by number of active rows; with levels for each pair of bits, by (n_active, weight bit,
activation bit)."""

Readouts = Mapping[str, Mapping[int, Readout]] | Mapping[str, Mapping[ReadKey, Readout]]
"""Every layer's readouts, by its name."""


def exact_readout(n_active: int) -> Readout:
    """A readout without any loss: one code a count, its centroid the partial sum.

    >>> exact_readout(2).centroid.tolist()
    [2, 0, -2]
    """
    counts = np.arange(n_active + 1)
    centroid = (n_active - 2 * counts).astype(np.int32)
    return Readout(np.eye(n_active + 1), counts.astype(np.int64), centroid, fraction_bits=0)


def check_readouts(network: Network, readouts: Readouts, mappings: Mapping[str, RowMapping]) -> None:
    """Refuse readouts that are missing, for another number of rows, or for a layer that does not use them.

    Args:
        network: The network.
        readouts: By layer name, number of active rows and perhaps pair of bits.
        mappings: By layer name.

    Raises:
        InputError: Naming the layer, the number of active rows and the pair of bits.
    """
    names = [layer.name for layer in network.binary_layers]
    for name in readouts:
        if name not in names:
            raise InputError(
                f"readouts for layer {name}, which reads no partial sums",
                hint=f"binary layers: {', '.join(names)}",
            )
    for layer in network.binary_layers:
        if layer.name not in readouts:
            raise InputError("no readouts for this layer", place=f"layer {layer.name}")
        _check_layer(layer, by_pair(readouts[layer.name]), mappings[layer.name])


def _check_layer(layer: DenseLayer, readouts: Mapping[Pair | None, Mapping[int, Readout]], mapping: RowMapping) -> None:
    place = f"layer {layer.name}"
    readouts = readouts or {None: {}}
    every = set(layer.bit_pairs)
    if set(readouts) not in ({None}, every):
        for weight_bit, activation_bit in sorted(every - set(readouts)):
            said = f"no readouts of weight bit {weight_bit} with activation bit {activation_bit}"
            raise InputError(said, place=place, hint="levels of its own for every pair of bits, or one set for all")
        said = f"readouts of pairs of bits beside those of weight_bits {layer.weight_bits}"
        raise InputError(f"{said} and activation_bits {layer.activation_bits}", place=place)
    for pair, by_n_active in readouts.items():
        of = "" if pair is None else f", weight bit {pair[0]}, activation bit {pair[1]}"
        _check_set(by_n_active, mapping, place + of)
    if len({each.fraction_bits for kinds in readouts.values() for each in kinds.values()}) > 1:
        raise InputError("all readouts of a layer must have the same fraction_bits", place=place)


def _check_set(by_n_active: Mapping[int, Readout], mapping: RowMapping, place: str) -> None:
    for n in mapping.kinds:
        if n not in by_n_active:
            raise InputError(f"no readout for {n} active rows", place=place, hint=f"needed: {mapping.kinds}")
        if by_n_active[n].n_active != n:
            raise InputError(
                f"readout for {n} active rows must have {n + 1} counts, got {by_n_active[n].n_active + 1}",
                place=place,
            )


def _table_shape(probability: Float64[np.ndarray, "count code"]) -> tuple[int, int]:
    if probability.ndim != 2 or probability.dtype != np.float64 or min(probability.shape) < 1:
        raise InputError(
            "probability must be float64 of shape (count, code), "
            f"got {probability.dtype.name} of shape {probability.shape}"
        )
    return probability.shape[0], probability.shape[1]


def _check_probability(probability: Float64[np.ndarray, "count code"]) -> None:
    if not np.all(np.isfinite(probability)) or np.any(probability < 0):
        raise InputError("probabilities must be finite and not negative")
    sums = probability.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > _SUM_TOLERANCE:
        raise InputError(f"probabilities of count {worst} sum to {sums[worst]:.9g}, expected 1")
