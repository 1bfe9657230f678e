"""Joins network and surrogate: the levels from its training partial sums, and the readouts that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import numpy as np
from jaxtyping import Float, Int64, UInt8

from cosim.circuit.column_adc import load_column_adc
from cosim.errors import InputError
from cosim.network.inference import partial_sum_histogram
from cosim.network.layers import Network
from cosim.network.readout import CENTROID_MAX, Readout, Readouts
from cosim.network.shared_levels import shared_levels
from cosim.surrogate.adc import bits_of, check_column, noise_v, stated_levels
from cosim.surrogate.calibration import (
    Calibration,
    Group,
    Levels,
    LevelsPer,
    ReadKey,
    by_pair,
    calibrate,
    check_levels_per,
    group_of,
    key_of,
)
from cosim.surrogate.codes import Mlsa, check_mlsa, code_probabilities, converter_probabilities, nominal_codes
from cosim.surrogate.model import Sensing, Surrogate

DEFAULT_BITS = 3
"""Of a code where nothing else is asked for."""


def calibrate_network(
    network: Network,
    surrogate: Surrogate,
    training_images: UInt8[np.ndarray, "image ..."],
    *,
    sensing: Sensing | None = None,
    bits: int | None = None,
    adc: str | Path | None = None,
    levels_per: LevelsPer | None = None,
    provenance: Mapping[str, str | int | float] | None = None,
) -> Calibration:
    """Lloyd-Max levels on the network's own partial sums over training images; never give it test images.

    A layer whose inputs turn rows on and off has one set of levels, see `cosim.network.shared_levels`; others have one
    for each number of active rows. Where weights or activations have several bits, every pair of bits has such levels
    of its own: an array is read once for each bit of the activations, and a bit of the weights is a column, so that an
    amplifier's references can be switched between reads; columns that take turns at one amplifier are read one after
    the other and switch it too. A pair that no training image reads has the levels of the whole layer.

    Args:
        sensing: By default differential, and single-ended where the column has one line.
        bits: Of the code; 3 by default.
        adc: A stated converter of `netlists/sense/` by name, or its folder, in the place of a sense amplifier. Its
            levels are its own, so that no bits are taken and the images give the histograms alone.
        levels_per: "pair" (the default) or "layer", one set of levels for all pairs of bits of a layer; only for a
            network with weights or activations of several bits, and not with an adc.
        provenance: Kept with the levels: hashes of what they were made from.

    Raises:
        InputError: The images do not fit the network, bits is outside 1..6 or beside an adc, there is no such sensing
            or converter, the column has no lines for it, or there is no choice of levels_per.
    """
    sensing = sensing_of(surrogate, sensing, adc)  # Wrong words are refused before any work.
    chosen = levels_per_of(network, levels_per, adc) or "layer"
    histograms = partial_sum_histogram(network, training_images, rows=surrogate.rows, levels_per=chosen)
    return calibrate_histograms(
        surrogate,
        histograms,
        sensing=sensing,
        bits=bits,
        adc=adc,
        on_off=[layer.name for layer in network.binary_layers if layer.input == "on_off"],
        provenance={"images": len(training_images)} | dict(provenance or {}),
    )


def calibrate_histograms(
    surrogate: Surrogate,
    by_layer: Mapping[str, Mapping[ReadKey, Int64[np.ndarray, " count"]]],
    *,
    sensing: Sensing | None = None,
    bits: int | None = None,
    adc: str | Path | None = None,
    on_off: Sequence[str] = (),
    provenance: Mapping[str, str | int | float],
) -> Calibration:
    """Levels from histograms of counts that have been taken already; arguments and errors as of `calibrate_network`.

    Args:
        by_layer: How often each count of product -1 occurred, by layer, number of active rows and perhaps pair of
            bits, as `partial_sum_histogram` gives them.
        on_off: Layers whose inputs turn rows on and off.
    """
    sensing = sensing_of(surrogate, sensing, adc)
    converter = None if adc is None else load_column_adc(adc)
    if converter is not None and bits is not None:
        raise InputError(f"bits = {bits} of a converter that has {converter.levels} levels", hint="leave bits out")
    histograms: dict[Group, np.ndarray] = {
        group_of(layer, key): histogram for layer, kinds in by_layer.items() for key, histogram in kinds.items()
    }
    if converter is not None:
        levels = {group: stated_levels(surrogate, converter, each) for group, each in histograms.items()}
        about = dict(provenance) | {"rule": "stated", "adc": converter_name(adc)}
        return Calibration(sensing, bits_of(converter), levels, about, converter)
    bits = DEFAULT_BITS if bits is None else bits
    usual = {group: each for group, each in histograms.items() if group[0] not in on_off}
    about = {"rule": "lloyd_max"} | dict(provenance)
    calibration = calibrate(surrogate, usual, sensing=sensing, bits=bits, provenance=about)
    shared = {
        group: levels
        for name in by_layer
        if name in on_off
        for group, levels in _on_off_levels(surrogate, name, by_layer[name], sensing, 2**bits).items()
    }
    return replace(calibration, levels={**calibration.levels, **shared}) if shared else calibration


def levels_per_of(network: Network, levels_per: str | None = None, adc: str | Path | None = None) -> LevelsPer | None:
    """What has levels of its own in a network, "pair" where nothing else is asked for; None where nothing differs.

    Raises:
        InputError: There is no such choice, or one is made where a layer has one set of levels in any case.
    """
    if levels_per is not None:
        check_levels_per(levels_per)
    several = any(len(layer.bit_pairs) > 1 for layer in network.binary_layers)
    if several and adc is None:
        return cast(LevelsPer, levels_per or "pair")
    if levels_per is not None:
        why = "whose levels are stated" if several else "every layer of which has one bit of weights and activations"
        what = f"a converter, {why}" if several else f"network {network.name}, {why}"
        raise InputError(f"levels_per {levels_per} with {what}", hint="leave it out")
    return None


def sensing_of(surrogate: Surrogate, sensing: str | None, adc: str | Path | None = None) -> Sensing:
    """The sensing that is asked for, or the column's best: differential where it has two lines and no converter.

    Raises:
        InputError: There is no such sensing, or the column has no lines for it; an adc of a column of two lines.
    """
    if sensing is not None and sensing not in get_args(Sensing):
        raise InputError(f"sensing must be one of {', '.join(get_args(Sensing))}, got {sensing!r}")
    if adc is not None:
        check_column(surrogate)
    chosen = cast(Sensing, sensing or ("differential" if surrogate.lines == 2 else "single_ended"))
    surrogate.check_sensing(chosen)
    return chosen


def converter_name(adc: str | Path | None) -> str:
    """A converter's name: that of its folder; empty for none."""
    return "" if adc is None else Path(adc).resolve().name


def check_calibration(network: Network, calibration: Calibration) -> None:
    """Refuse the levels of another network, by the name that they keep and by their layers.

    Raises:
        InputError: Naming both networks, or the layers.
    """
    of = calibration.provenance.get("network", network.name)
    hint = "calibrate with this network"
    if of != network.name:
        raise InputError(f"a calibration of network {of}, expected one of {network.name}", hint=hint)
    layers, expected = {group[0] for group in calibration.levels}, {layer.name for layer in network.binary_layers}
    if layers != expected:
        names = [", ".join(sorted(each)) or "none" for each in (layers, expected)]
        raise InputError(f"a calibration of layers {names[0]}, expected {names[1]}", hint=hint)


def readouts_of(surrogate: Surrogate, calibration: Calibration, mlsa: Mlsa = "flash") -> Readouts:
    """What every column reads, for modes nominal and iid.

    Args:
        mlsa: One comparator a level (`flash`), or one whose reference is stepped (`sequential`).

    Raises:
        InputError: A reference or a common mode lies beyond those at which the comparator was measured, there is no
            such mlsa, or it is one of comparators and the calibration of a converter.
    """
    check_mlsa(mlsa)
    if calibration.adc is not None and mlsa != "flash":
        raise InputError(f"mlsa {mlsa} with the levels of a column ADC, which has no comparators to step")
    readouts: dict[str, dict[ReadKey, Readout]] = {}
    bits = _fraction_bits(calibration)
    for group, levels in calibration.levels.items():
        readout = _readout(surrogate, calibration, group[1], levels, bits, mlsa)
        readouts.setdefault(group[0], {})[key_of(group)] = readout
    return readouts


def probabilities(
    surrogate: Surrogate, calibration: Calibration, n_active: int, levels: Levels, mlsa: Mlsa = "flash"
) -> Float[np.ndarray, "count code"]:
    """P(code | n_minus) of one group's levels, with comparators or with the calibration's converter."""
    if calibration.adc is None:
        return code_probabilities(surrogate, calibration.sensing, n_active, levels.reference_v, mlsa)
    check_column(surrogate)
    return converter_probabilities(surrogate, n_active, levels.reference_v, noise_v(surrogate, calibration.adc))


def _on_off_levels(
    surrogate: Surrogate,
    layer: str,
    of_layer: Mapping[ReadKey, Int64[np.ndarray, " count"]],
    sensing: Sensing,
    levels: int,
) -> dict[Group, Levels]:
    """The shared levels of one layer, or of each of its pairs of bits; of one that was not read those of all."""
    found: dict[Group, Levels] = {}
    sets = by_pair(of_layer)
    for pair, by_n_active in sets.items():
        if not any(each.any() for each in by_n_active.values()):
            by_n_active = {n: np.sum([each[n] for each in sets.values()], axis=0) for n in by_n_active}
        for n, each in shared_levels(surrogate, by_n_active, sensing, levels).items():
            found[group_of(layer, n if pair is None else (n, *pair))] = each
    return found


def _readout(
    surrogate: Surrogate, calibration: Calibration, n_active: int, levels: Levels, fraction_bits: int, mlsa: Mlsa
) -> Readout:
    return Readout(
        probability=probabilities(surrogate, calibration, n_active, levels, mlsa),
        nominal=nominal_codes(surrogate, calibration.sensing, n_active, levels.reference_v),
        centroid=np.rint(levels.centroid_mac * 2**fraction_bits).astype(np.int32),
        fraction_bits=fraction_bits,
    )


def _fraction_bits(calibration: Calibration) -> int:
    """The most fraction bits with which every centroid fits the digital adder's word."""
    largest = max(float(np.abs(levels.centroid_mac).max()) for levels in calibration.levels.values())
    if not largest < CENTROID_MAX:
        raise InputError(f"a centroid of {largest:g} MAC units does not fit 16 bits")
    return min(8, int(np.floor(np.log2(CENTROID_MAX / max(largest, 1.0)))))
