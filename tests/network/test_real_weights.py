"""Real weights and averages in packed networks: batches, files, partitions, refusals; test_convolutions has torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_convolutions import random_signs
from random_networks import random_images, random_readouts

from cosim import hdf5
from cosim.errors import InputError
from cosim.network import inference, real_reference
from cosim.network.files import FILETYPE, VERSION, load_network, save_network
from cosim.network.fixed_point import fixed_point
from cosim.network.inference import forward, trace
from cosim.network.layer_options import options_of
from cosim.network.layers import (
    Affine,
    BatchNorm,
    ConvLayer,
    DenseLayer,
    Network,
    Pool,
    Residual,
    Support,
    Threshold,
    Window,
)
from cosim.network.packing import pack_bits, pack_signs
from cosim.network.partition import partition_report
from cosim.network.program import MODES, Mode
from cosim.network.readout import exact_readout

RNG = np.random.default_rng(0)


def residual(columns: int, shortcut: str = "") -> Residual:
    return Residual(RNG.normal(0, 0.1, columns).astype("f4"), RNG.normal(0, 1, columns).astype("f4"), shortcut, True)


def real_layer(name: str, inputs: int, columns: int, output: object, **options: object) -> DenseLayer:
    weights = RNG.normal(0, 1, (columns, inputs)).astype("f4")
    kind = ConvLayer if "window" in options else DenseLayer
    about = {"input": "real", "real_weights": weights} | options
    return kind(name=name, in_features=inputs, packed=pack_bits(weights >= 0), output=output, **about)


def resnet_like() -> Network:
    """A real convolution, a convolution of its signs with a shortcut and an average of the whole map, real logits."""
    first, second = (Window((channels, 6, 6), (3, 3), (1, 1), (1, 1)) for channels in (3, 8))
    affine = Affine(np.ones(4, "f4"), np.zeros(4, "f4"))
    average = Pool((6, 6), (6, 6), of="outputs", kind="average")
    packed = pack_signs(random_signs(RNG, 8, 72))
    layers = (
        real_layer("first", 27, 8, residual(8), input="pixels", window=first),
        ConvLayer("second", "binary", 72, packed, residual(8, "first"), window=second, pool=average),
        real_layer("last", 8, 4, affine),
    )
    return Network("resnet", layers, 4, (6, 6, 3))


@pytest.mark.parametrize("mode", MODES)
def test_batches_and_blocks_change_nothing(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    network = resnet_like()
    readouts, images = random_readouts(network, RNG), random_images(30, network, RNG)
    whole = forward(network, images, mode=mode, readouts=readouts, seed=3)
    part = forward(network, images[7:20], mode=mode, readouts=readouts, seed=3, first_image=7)
    np.testing.assert_array_equal(part, whole[7:20])
    monkeypatch.setattr(inference, "BLOCK_IMAGES", 1)
    again = forward(network, images, mode=mode, readouts=readouts, seed=3, threads=2)
    np.testing.assert_array_equal(again, whole)


def test_only_binary_layers_take_cells():
    (part,) = partition_report(resnet_like())
    assert (part.layer, part.down, part.array.shape) == ("second", 2, (72,))


def test_an_average_of_sums_is_divided_once():
    """Thresholds and scales are of the average, and the sums are its total."""
    window = Window((1, 2, 2), (1, 1))
    pool = Pool((2, 2), (2, 2), kind="average")
    layer = ConvLayer("a", "pixels", 1, pack_signs(np.ones((1, 1), "i1")), residual(1), window=window, pool=pool)
    real = replace(layer, output=Residual(np.ones(1, "f4"), np.zeros(1, "f4")))
    affine = Affine(np.ones(1, "f4"), np.zeros(1, "f4"))
    network = Network("a", (real, real_layer("b", 1, 1, affine)), 1, (2, 2))
    images = np.array([[[1, 2], [3, 4]]], np.uint8)
    first = trace(network, images, mode="ideal")[0]
    assert (first.sums.tolist(), first.reals.tolist()) == ([[[[10]]]], [[[[2.5]]]])
    last = replace(layer, output=affine)
    assert forward(Network("a", (last,), 1, (2, 2)), images, mode="ideal").tolist() == [[2.5]]
    norm = BatchNorm(*(np.array([v], "f4") for v in (1, 0, 2.3, 1)), 0.0)
    threshold = Threshold(np.array([10], "i4"), np.array([1], "i1"))
    assert fixed_point(threshold, norm, 3, 4).tolist() == [74]  # 2.3 * 4 * 8 = 73.6


def test_reads_of_an_averaged_layer_are_those_of_any():
    network = resnet_like()
    images = random_images(5, network, RNG)
    ideal = forward(network, images, mode="ideal")
    exact = {"second": {n: exact_readout(n) for n in random_readouts(network, RNG)["second"]}}
    for mode in ("nominal", "iid"):
        np.testing.assert_array_equal(forward(network, images, mode=mode, readouts=exact), ideal)


def test_files_keep_real_weights_and_older_options_stay_as_they_were(tmp_path: Path):
    network = resnet_like()
    save_network(network, tmp_path / "a.h5")
    back = load_network(tmp_path / "a.h5")
    assert back.layers[1].pool == network.layers[1].pool
    np.testing.assert_array_equal(back.layers[0].real_weights, network.layers[0].real_weights)
    images = random_images(5, network, RNG)
    np.testing.assert_array_equal(forward(back, images, mode="ideal"), forward(network, images, mode="ideal"))
    maximum = replace(network.layers[1], pool=replace(network.layers[1].pool, kind="max"))
    assert set(json.loads(options_of(maximum))["pool"]) == {"size", "stride", "padding", "of"}  # Read by 1.2 too.
    assert VERSION >= (1, 3)
    content = hdf5.read(tmp_path / "a.h5", filetype=FILETYPE, major=1)
    kept = {k: v for k, v in content.attributes.items() if k not in hdf5.RESERVED}
    without = {k: v for k, v in content.datasets.items() if k != "last/real_weights"}
    hdf5.write(tmp_path / "b.h5", hdf5.Content(kept, without), filetype=FILETYPE, version=VERSION)
    with pytest.raises(InputError, match="layer last: dataset 'real_weights' is missing"):
        load_network(tmp_path / "b.h5")


AFFINE = Affine(np.ones(2, "f4"), np.zeros(2, "f4"))
PACKED = pack_signs(np.ones((2, 3), "i1"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"real_weights": None}, "layer a: real inputs need real_weights"),
        ({"real_weights": np.ones((2, 4), "f4")}, r"real_weights must be float32 of shape \(2, 3\)"),
        ({"real_weights": np.ones((2, 3))}, "real_weights must be float32"),
        ({"real_weights": np.full((2, 3), np.nan, "f4")}, "real_weights has values that are not finite"),
        ({"real_weights": -np.ones((2, 3), "f4")}, "packed weights must be the signs of the real weights"),
        ({"weight_bits": 2}, "weight_bits is for binary weights"),
        ({"digital": True}, "digital is for binary weights"),
        ({"support": Support(3, np.ones((1, 2), "i4"), 0)}, "a support is for binary weights"),
        (
            {"output": Threshold(np.zeros(2, "i4"), np.ones(2, "i1"))},
            "real weights need a residual or an affine output",
        ),
    ],
)
def test_wrong_real_weights_are_refused(changes: dict, message: str):
    about = {"real_weights": np.ones((2, 3), "f4"), "output": AFFINE} | changes
    with pytest.raises(InputError, match=message):
        DenseLayer(name="a", input="real", in_features=3, packed=PACKED, **about)


def test_real_inputs_need_a_real_output_before_them():
    signs = DenseLayer("a", "pixels", 3, PACKED, Threshold(np.zeros(2, "i4"), np.ones(2, "i1")))
    last = real_layer("b", 2, 2, AFFINE)
    with pytest.raises(InputError, match="layer b: it takes real inputs, but layer a gives signs"):
        Network("n", (signs, last), 2, (3,))
    with pytest.raises(InputError, match='layer b: the first layer takes the image, its input cannot be "real"'):
        Network("n", (last,), 2, (2,), {}, 128)
    with pytest.raises(InputError, match='a pooling is a "max" or an "average", got'):
        Pool((2, 2), (2, 2), kind="mean")


def test_the_twin_adds_in_the_stated_order():
    seen, weights = np.ones((1, 1, 3), "f4"), np.array([[1e16, 1, -1e16], [1e16, -1e16, 1]], "f4")
    assert real_reference.real_sums(seen, weights).tolist() == [[[0.0, 1.0]]]
