"""XNOR-Net's scaling of inputs: sums times the mean magnitude of what they see; test_convolutions has torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_convolutions import random_signs
from random_networks import random_images, random_readouts
from scipy.signal import convolve2d

from cosim.errors import InputError
from cosim.network import inference
from cosim.network.files import load_network, save_network
from cosim.network.inference import forward, partial_sums_per_image, trace
from cosim.network.layers import (
    Affine,
    ConvLayer,
    DenseLayer,
    Network,
    Quantizer,
    Residual,
    Threshold,
    Window,
)
from cosim.network.packing import pack_bits, pack_signs
from cosim.network.program import MODES, Mode
from cosim.network.real_reference import input_scales

RNG = np.random.default_rng(0)


def xnor_net(pad_value: int = 0, *, scaled: bool = True) -> Network:
    """A real output of pixels, a scaled convolution of its signs with factors of the weights, scaled logits."""
    one, window = Window((3, 6, 5), (1, 1)), Window((7, 6, 5), (3, 3), (1, 1), (1, 1), pad_value)
    real = Residual(RNG.normal(0, 0.01, 7).astype("f4"), RNG.normal(0, 1, 7).astype("f4"))
    first = ConvLayer("a", "pixels", 3, pack_signs(random_signs(RNG, 7, 3)), real, window=one)
    alpha = Residual(RNG.uniform(0.01, 0.1, 40).astype("f4"), np.zeros(40, "f4"))
    packed = pack_signs(random_signs(RNG, 40, 63))
    second = ConvLayer("b", "binary", 63, packed, alpha, window=window, scale_inputs=scaled)
    affine = Affine(np.ones(4, "f4"), np.zeros(4, "f4"))
    packed = pack_signs(random_signs(RNG, 4, 40 * 30))
    last = DenseLayer("c", "binary", 40 * 30, packed, affine, scale_inputs=scaled)
    return Network("xnor", (first, second, last), 4, (6, 5, 3))


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_k_is_the_box_filter_of_the_mean_magnitude(pad_value: int):
    """Section 3.2: K = A * k with k = 1 / (w h); in float64, to within float32's rounding of 9 + 7 operations."""
    network = xnor_net(pad_value)
    first, second, last = trace(network, random_images(4, network, RNG), mode="ideal")
    plain = trace(replace(network, layers=xnor_layers(network)), random_images(4, network, RNG), mode="ideal")
    assert plain[1].sums.dtype == np.int32
    magnitude = np.abs(first.reals.astype(float)).mean(axis=1)
    box = np.full((3, 3), 1 / 9)
    expected = np.stack([convolve2d(each, box, "same", fillvalue=abs(pad_value)) for each in magnitude])
    scales = input_scales(first.reals, network.window(1)).reshape(4, 6, 5)
    np.testing.assert_allclose(scales, expected, rtol=16 * 2.0**-24)
    weights = network.layers[1].weights.reshape(40, 3, 3, 7).astype(float)
    signs = np.pad(first.signs.astype(float), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=pad_value)
    windows = np.lib.stride_tricks.sliding_window_view(signs, (3, 3), axis=(2, 3))
    sums = np.einsum("ncyxij,oijc->noyx", windows, weights)
    assert second.sums.dtype == np.float32
    np.testing.assert_array_equal(second.sums, sums.astype("f4") * scales[:, None])
    np.testing.assert_array_equal(second.reals, second.sums * network.layers[1].output.scale[:, None, None])
    dense = second.signs.reshape(4, -1) @ network.layers[2].weights.T.astype(float)
    np.testing.assert_allclose(last.sums, dense * np.abs(second.reals).mean(axis=(1, 2, 3))[:, None], rtol=1e-5)


def xnor_layers(network: Network) -> tuple[DenseLayer, ...]:
    return tuple(replace(layer, scale_inputs=False) for layer in network.layers)


@pytest.mark.parametrize("mode", MODES)
def test_batches_and_blocks_change_nothing(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    """No scale is that of a batch."""
    network = xnor_net(1)
    readouts, images = random_readouts(network, RNG), random_images(30, network, RNG)
    images[3] = 255
    whole = forward(network, images, mode=mode, readouts=readouts, seed=3)
    part = forward(network, images[7:20], mode=mode, readouts=readouts, seed=3, first_image=7)
    np.testing.assert_array_equal(part, whole[7:20])
    monkeypatch.setattr(inference, "BLOCK_IMAGES", 1)
    again = forward(network, images, mode=mode, readouts=readouts, seed=3, threads=2)
    np.testing.assert_array_equal(again, whole)
    other = replace(network, layers=xnor_layers(network))
    assert np.mean(forward(other, images, mode=mode, readouts=readouts, seed=3) == whole) < 0.01


def test_the_reads_are_those_of_the_layer_without_scales():
    network = xnor_net()
    plain = replace(network, layers=xnor_layers(network))
    assert partial_sums_per_image(network) == partial_sums_per_image(plain)
    readouts, images = random_readouts(network, RNG), random_images(6, network, RNG)
    for mode in ("nominal", "iid"):
        scaled, unscaled = (trace(each, images, mode=mode, readouts=readouts, seed=1)[1] for each in (network, plain))
        first = trace(network, images, mode="ideal")[0]
        scales = input_scales(first.reals, network.window(1)).reshape(6, 1, 6, 5)
        mac = unscaled.sums.astype("f4") / np.float32(2**unscaled.fraction_bits)
        np.testing.assert_array_equal(scaled.sums, mac * scales)
        assert scaled.fraction_bits == 0


def test_files_keep_it(tmp_path: Path):
    network = xnor_net()
    save_network(network, tmp_path / "a.h5")
    back = load_network(tmp_path / "a.h5")
    assert [layer.scale_inputs for layer in back.layers] == [False, True, True]
    images = random_images(5, network, RNG)
    np.testing.assert_array_equal(forward(back, images, mode="ideal"), forward(network, images, mode="ideal"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "on_off"}, r"scale_inputs is for binary weights on inputs of \+1 and -1"),
        ({"activation_bits": 2}, "scale_inputs is for binary weights"),
        (
            {"output": Threshold(np.zeros(40, "i4"), np.ones(40, "i1"))},
            "scaled sums need a residual or an affine output",
        ),
        ({"output": Quantizer(np.zeros((40, 3), "i4"), np.ones(40, "i1"))}, "scaled sums need a residual"),
        ({"real_weights": np.ones((40, 63), "f4"), "packed": pack_bits(np.ones((40, 63), bool))}, "for binary weights"),
    ],
)
def test_layers_that_cannot_be_scaled_are_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        replace(xnor_net().layers[1], **changes)


def test_sources_without_numbers_are_refused():
    network = xnor_net()
    signs = replace(network.layers[0], output=Threshold(np.zeros(7, "i4"), np.ones(7, "i1")))
    with pytest.raises(InputError, match="layer b: scale_inputs needs the numbers before the signs, but layer a gives"):
        replace(network, layers=(signs, *network.layers[1:]))
    first = replace(network.layers[0], input="binary", scale_inputs=True)
    with pytest.raises(InputError, match="layer a: scale_inputs needs a layer before it with a real output"):
        replace(network, layers=(first, *network.layers[1:]), pixel_threshold=128)
