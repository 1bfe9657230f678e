"""Joins network and surrogate: the levels from its training partial sums, and the readouts that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np
from jaxtyping import UInt8

from cosim.errors import InputError
from cosim.network.inference import partial_sum_histogram
from cosim.network.layers import Network
from cosim.network.readout import CENTROID_MAX, Readout, Readouts
from cosim.surrogate.calibration import Calibration, Group, Levels, calibrate
from cosim.surrogate.codes import code_probabilities, nominal_codes
from cosim.surrogate.model import Sensing, Surrogate


def calibrate_network(
    network: Network,
    surrogate: Surrogate,
    training_images: UInt8[np.ndarray, "image ..."],
    *,
    sensing: Sensing,
    bits: int = 3,
    provenance: Mapping[str, str | int | float] | None = None,
) -> Calibration:
    """Lloyd-Max levels on the network's own partial sums over training images; never give it test images.

    Args:
        provenance: Kept with the levels: hashes of what they were made from.

    Raises:
        InputError: The images do not fit the network, bits is outside 1..6, or there is no such sensing.
    """
    if sensing not in get_args(Sensing):
        raise InputError(f"sensing must be one of {', '.join(get_args(Sensing))}, got {sensing!r}")
    by_layer = partial_sum_histogram(network, training_images, rows=surrogate.rows)
    histograms: dict[Group, np.ndarray] = {
        (layer, n_active): histogram for layer, kinds in by_layer.items() for n_active, histogram in kinds.items()
    }
    about = {"images": len(training_images), "rule": "lloyd_max"} | dict(provenance or {})
    return calibrate(surrogate, histograms, sensing=sensing, bits=bits, provenance=about)


def check_calibration(network: Network, calibration: Calibration) -> None:
    """Refuse the levels of another network, by the name that they keep and by their layers.

    Raises:
        InputError: Naming both networks, or the layers.
    """
    of = calibration.provenance.get("network", network.name)
    hint = "calibrate with this network"
    if of != network.name:
        raise InputError(f"a calibration of network {of}, expected one of {network.name}", hint=hint)
    layers, expected = {layer for layer, _ in calibration.levels}, {layer.name for layer in network.binary_layers}
    if layers != expected:
        names = [", ".join(sorted(each)) or "none" for each in (layers, expected)]
        raise InputError(f"a calibration of layers {names[0]}, expected {names[1]}", hint=hint)


def readouts_of(surrogate: Surrogate, calibration: Calibration) -> Readouts:
    """What every column reads, for modes nominal and iid.

    Raises:
        InputError: A reference lies beyond the levels at which the comparator was measured.
    """
    readouts: dict[str, dict[int, Readout]] = {}
    bits = _fraction_bits(calibration)
    for (layer, n_active), levels in calibration.levels.items():
        readouts.setdefault(layer, {})[n_active] = _readout(surrogate, calibration.sensing, n_active, levels, bits)
    return readouts


def _readout(surrogate: Surrogate, sensing: Sensing, n_active: int, levels: Levels, fraction_bits: int) -> Readout:
    return Readout(
        probability=code_probabilities(surrogate, sensing, n_active, levels.reference_v),
        nominal=nominal_codes(surrogate, sensing, n_active, levels.reference_v),
        centroid=np.rint(levels.centroid_mac * 2**fraction_bits).astype(np.int32),
        fraction_bits=fraction_bits,
    )


def _fraction_bits(calibration: Calibration) -> int:
    """The most fraction bits with which every centroid fits the digital adder's word."""
    largest = max(float(np.abs(levels.centroid_mac).max()) for levels in calibration.levels.values())
    if not largest < CENTROID_MAX:
        raise InputError(f"a centroid of {largest:g} MAC units does not fit 16 bits")
    return min(8, int(np.floor(np.log2(CENTROID_MAX / max(largest, 1.0)))))
