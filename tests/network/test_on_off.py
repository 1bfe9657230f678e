"""Inputs that turn their rows on and off (HBNN): exact sums, tables by the rows that are on, shared levels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_convolutions import one_convolution, random_signs
from random_networks import random_images, random_readout

from cosim.errors import InputError
from cosim.network.files import load_network, save_network
from cosim.network.inference import forward, partial_sum_histogram, trace
from cosim.network.layers import Affine, DenseLayer, Network, Threshold
from cosim.network.mapping import map_inputs
from cosim.network.packing import pack_signs
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.surrogate.model import ComparatorModel, LineModel, Surrogate


def two_layers(inputs: int = 130, hidden: int = 70) -> Network:
    """A dense layer of +1 and -1 pixels, and one of its outputs as 1 and 0."""
    rng = np.random.default_rng(0)
    output = Threshold(np.zeros(hidden, "i4"), np.ones(hidden, "i1"))
    first = DenseLayer("first", "binary", inputs, pack_signs(random_signs(rng, hidden, inputs)), output)
    affine = Affine(np.ones(5, "f4"), np.zeros(5, "f4"))
    second = DenseLayer("second", "on_off", hidden, pack_signs(random_signs(rng, 5, hidden)), affine)
    return Network("hbnn", (first, second), 5, (inputs,), {}, 128)


def surrogate_of_64_rows() -> Surrogate:
    """A line that falls by 0.4 V, its noise that of a sum of cells, and offsets of 15 mV."""
    n, none, one = np.arange(65.0), np.zeros(65), np.ones(7)
    line = LineModel(1 - 0.6 * n / (n + 32), 1.5e-3 * np.sqrt(n), none, none, none, none)
    spans = {"single_ended": np.linspace(0.3, 1.05, 7), "differential": np.linspace(-0.75, 0.75, 7)}
    offsets = {name: ComparatorModel("a", v, 0 * v, 0.015 * one, 0 * v, 0 * v, 50) for name, v in spans.items()}
    return Surrogate(line, offsets, {}, {"rows": 64})


def test_a_table_for_every_number_of_rows_is_used():
    """Tables that say their own number of rows: the sum of centroids counts the rows that are on."""
    network = two_layers()
    images = random_images(40, network, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    tables = {
        n: replace(random_readout(n, 8, rng), centroid=np.full(8, n, "i4"), fraction_bits=0) for n in range(1, 65)
    }
    first = {n: random_readout(n, 8, rng) for n in (2, 64)}
    for mode in ("nominal", "iid"):
        traced = trace(network, images, mode=mode, readouts={"first": first, "second": tables})
        on = (traced[0].signs > 0).sum(axis=1)
        np.testing.assert_array_equal(traced[1].sums, np.repeat(on[:, None], 5, axis=1))
    del tables[3]
    with pytest.raises(InputError, match="layer second: no readout for 3 active rows"):
        forward(network, images, mode="nominal", readouts={"first": first, "second": tables})


def test_rows_of_the_mapping_are_those_that_can_be_on():
    network = two_layers()
    histograms = partial_sum_histogram(network, random_images(20, network, np.random.default_rng(1)))
    assert set(histograms["first"]) == {2, 64}
    assert set(histograms["second"]) == set(range(1, 65))
    assert map_inputs(130).kinds == (2, 64)


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_levels_are_shared_by_all_numbers_of_rows(sensing: str):
    network, surrogate = two_layers(128, 64), surrogate_of_64_rows()
    images = random_images(200, network, np.random.default_rng(1))
    if sensing == "differential":
        with pytest.raises(InputError, match="differential sensing with 1 active rows"):
            calibrate_network(network, surrogate, images, sensing=sensing)
        return
    calibration = calibrate_network(network, surrogate, images, sensing=sensing, bits=6)
    levels = {n: each for (layer, n), each in calibration.levels.items() if layer == "second"}
    assert set(levels) == set(range(1, 65))
    for each in levels.values():
        np.testing.assert_array_equal(each.reference_v, levels[64].reference_v)
    # With more codes than counts that occur, the nominal read is exact, decoded with the rows that are on.
    readouts = readouts_of(surrogate, calibration)
    ideal = forward(network, images, mode="ideal")
    np.testing.assert_array_equal(forward(network, images, mode="nominal", readouts=readouts), ideal)
    assert not np.array_equal(forward(network, images, mode="iid", readouts=readouts), ideal)


def test_files_and_refusals(tmp_path: Path):
    network = two_layers()
    save_network(network, tmp_path / "n.h5")
    assert load_network(tmp_path / "n.h5").layers[1].input == "on_off"
    layer = one_convolution(3, 2, pad_value=-1).layers[0]
    with pytest.raises(InputError, match="layer conv: inputs that are on or off are padded with 0 or 1"):
        replace(layer, input="on_off")
