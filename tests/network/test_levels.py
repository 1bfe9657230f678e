"""Activations of several bits: every pair of bits is a read of its own; test_convolutions has twins and torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_convolutions import random_signs
from random_networks import random_images, random_readouts

from cosim.errors import InputError
from cosim.network import inference
from cosim.network.files import load_network, save_network
from cosim.network.inference import forward, partial_sum_histogram, partial_sums_per_image, trace
from cosim.network.layers import Affine, ConvLayer, DenseLayer, Network, Pool, Quantizer, Threshold, Window
from cosim.network.packing import pack_signs
from cosim.network.partition import partition_report
from cosim.network.program import MODES, Mode

RNG = np.random.default_rng(0)
AFFINE = Affine(np.ones(3, "f4"), np.zeros(3, "f4"))


def quantizer(columns: int, bits: int = 2, spread: float = 2000.0) -> Quantizer:
    value = np.sort(RNG.normal(0, spread, (columns, 2**bits - 1)).astype(np.int32), axis=1)
    return Quantizer(value, np.ones(columns, np.int8))


def two_layers(bits: int = 2, weight_bits: int = 1, pad_value: int = 0, columns: int = 70) -> Network:
    """A quantizer of pixels, a padded convolution of its levels, logits of more levels."""
    one, window = Window((3, 5, 5), (1, 1)), Window((columns, 5, 5), (3, 3), (1, 1), (1, 1), pad_value)
    first = ConvLayer(
        "a", "pixels", 3, pack_signs(random_signs(RNG, columns, 3)), quantizer(columns, bits, 150.0), window=one
    )
    packed = pack_signs(random_signs(RNG, 9 * weight_bits, window.in_features))
    about = {"weight_bits": weight_bits, "activation_bits": bits}
    second = ConvLayer("b", "binary", window.in_features, packed, quantizer(9, bits, 30.0), window=window, **about)
    packed = pack_signs(random_signs(RNG, 3, 9 * 25))
    last = DenseLayer("c", "binary", 9 * 25, packed, AFFINE, activation_bits=bits)
    return Network("levels", (first, second, last), 3, (5, 5, 3))


@pytest.mark.parametrize("mode", MODES)
def test_batches_and_blocks_change_nothing(mode: Mode, monkeypatch: pytest.MonkeyPatch):
    network = two_layers(weight_bits=2)
    readouts, images = random_readouts(network, RNG), random_images(30, network, RNG)
    whole = forward(network, images, mode=mode, readouts=readouts, seed=3)
    part = forward(network, images[7:20], mode=mode, readouts=readouts, seed=3, first_image=7)
    np.testing.assert_array_equal(part, whole[7:20])
    monkeypatch.setattr(inference, "BLOCK_IMAGES", 1)
    again = forward(network, images, mode=mode, readouts=readouts, seed=3, threads=2)
    np.testing.assert_array_equal(again, whole)


def of_one_bit(network: Network) -> Network:
    """The same windows and columns with one bit each."""
    outputs = [Threshold(np.zeros(columns, "i4"), np.ones(columns, "i1")) for columns in (70, 9)]
    first, second, last = network.layers
    second = replace(second, activation_bits=1, weight_bits=1, packed=second.packed[:9], output=outputs[1])
    layers = replace(first, output=outputs[0]), second, replace(last, activation_bits=1)
    return replace(network, layers=layers)


@pytest.mark.parametrize(("bits", "weight_bits"), [(2, 1), (2, 2), (4, 4)])
def test_every_pair_of_bits_is_a_read(bits: int, weight_bits: int):
    """Those of a layer of one bit, times both numbers of bits; the histogram counts what the report says."""
    network = two_layers(bits, weight_bits)
    report, plain = (partition_report(each) for each in (network, of_one_bit(network)))
    for part, one, pairs in zip(report, plain, (bits * weight_bits, bits), strict=True):
        assert part.reads == one.reads * pairs
        assert (part.positions, part.cycles) == (one.positions * bits, one.cycles * bits)
    total = partial_sums_per_image(network)
    assert sum(part.reads for part in report) == total
    found = partial_sum_histogram(network, random_images(2, network, RNG))
    assert sum(int(each.sum()) for kinds in found.values() for each in kinds.values()) == 2 * total


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
def test_padding_holds_the_lowest_or_highest_level_or_nothing(pad_value: int):
    network = two_layers(2, 1, pad_value)
    images = random_images(4, network, RNG)
    first, second, _ = trace(network, images, mode="ideal")
    padded = np.pad(first.signs.astype(int), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=3 * pad_value)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    weights = network.layers[1].weights.reshape(9, 3, 3, 70).astype(int)
    np.testing.assert_array_equal(second.sums, np.einsum("ncyxij,oijc->noyx", windows, weights))
    assert set(np.unique(first.signs)) == {-3, -1, 1, 3}


def test_bits_of_an_activation_are_drawn_independently():
    """Equal planes: with the same draws their codes would be the same."""
    always = Quantizer(np.full((70, 3), -(2**20), "i4"), np.ones(70, "i1"))
    network = two_layers(2)
    network = replace(network, layers=(replace(network.layers[0], output=always), *network.layers[1:]))
    readouts = random_readouts(network, RNG)
    images = np.zeros((200, 5, 5, 3), np.uint8)
    both = trace(network, images, mode="iid", readouts=readouts, seed=5)[1].sums.astype(float)
    constant = Threshold(np.full(70, -(2**20), "i4"), np.ones(70, "i1"))
    plain = replace(network.layers[1], activation_bits=1)
    one = replace(network, layers=(replace(network.layers[0], output=constant), plain, network.layers[2]))
    single = trace(one, images, mode="iid", readouts=readouts, seed=5)[1].sums.astype(float)
    other = (both - single) / 2  # What the bit worth two has read.
    assert np.array_equal(other, other.round())
    a, b = (each - each.mean(axis=0) for each in (single, other))
    np.testing.assert_allclose(b.var(), a.var(), rtol=0.05)
    assert abs((a * b).mean() / a.var()) < 4 / np.sqrt(a.size)  # |r| of independent draws, four sigma


def test_max_pooling_takes_the_highest_level():
    network = two_layers()
    pooled = replace(network.layers[1], pool=Pool((5, 5), (5, 5), of="outputs"))
    last = replace(network.layers[2], in_features=9, packed=pack_signs(random_signs(RNG, 3, 9)))
    images = random_images(20, network, RNG)
    whole = trace(network, images, mode="ideal")[1].signs
    found = trace(replace(network, layers=(network.layers[0], pooled, last)), images, mode="ideal")[1].signs
    np.testing.assert_array_equal(found[:, :, 0, 0], whole.max(axis=(2, 3)))
    assert len(np.unique(found)) > 1


def test_files_keep_levels(tmp_path: Path):
    network = two_layers(4, 2)
    save_network(network, tmp_path / "a.h5")
    back = load_network(tmp_path / "a.h5")
    assert [layer.activation_bits for layer in back.layers] == [1, 4, 4]
    assert [layer.output_bits for layer in back.layers] == [4, 4, 1]
    images = random_images(5, network, RNG)
    np.testing.assert_array_equal(forward(back, images, mode="ideal"), forward(network, images, mode="ideal"))


@pytest.mark.parametrize(
    ("value", "direction", "message"),
    [
        (np.zeros((3, 2), "i4"), np.ones(3, "i1"), r"2\*\*bits - 1 steps for 2 to 7 bits, got 2"),
        (np.zeros((3, 1), "i4"), np.ones(3, "i1"), "steps for 2 to 7 bits, got 1"),
        (np.array([[3, 2, 4]], "i4"), np.ones(1, "i1"), "must not fall in its direction"),
        (np.array([[1, 2, 3]], "i4"), -np.ones(1, "i1"), "must not fall in its direction"),
        (np.zeros((3, 3), "i4"), 2 * np.ones(3, "i1"), "direction must be -1, 0 or 1"),
        (np.zeros((3, 3), "i8"), np.ones(3, "i1"), "value must be int32"),
    ],
)
def test_wrong_quantizers_are_refused(value: np.ndarray, direction: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        Quantizer(value, direction)


def test_bits_that_do_not_fit_are_refused():
    network = two_layers()
    first, second, last = network.layers
    with pytest.raises(InputError, match="layer b: activation_bits must be 1 to 7, got 8"):
        replace(second, activation_bits=8)
    with pytest.raises(InputError, match="layer a: activation_bits is for binary or on_off inputs, not for pixels"):
        replace(first, activation_bits=2)
    with pytest.raises(InputError, match="layer b: activation_bits 1, but layer a gives 2 bits"):
        replace(network, layers=(first, replace(second, activation_bits=1), last))
    with pytest.raises(InputError, match="layer b: outputs of several bits have max pooling"):
        replace(second, pool=Pool((5, 5), (5, 5), of="outputs", kind="average"))
    with pytest.raises(InputError, match="layer a: the pixels become one bit, got activation_bits 2"):
        Network("n", (replace(first, input="binary", activation_bits=2), second, last), 3, (5, 5, 3), {}, 128)
    with pytest.raises(InputError, match=r"layer b: 10 sub-arrays with weights, activations or supports up to 32512"):
        partition_report(two_layers(7, 9))
