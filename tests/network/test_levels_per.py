"""Levels for every pair of bits; kernels against twins are in test_convolutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_convolutions import random_signs
from random_networks import random_images, random_pair_readouts, random_readout, random_readouts
from test_levels import of_one_bit, two_layers
from test_on_off import surrogate_of_64_rows

from cosim.errors import InputError
from cosim.network import inference, read_tables, reference
from cosim.network.inference import forward, partial_sum_histogram, trace
from cosim.network.layers import Affine, DenseLayer, Network, Quantizer
from cosim.network.layout import map_network
from cosim.network.packing import pack_signs
from cosim.network.program import MODES, Mode
from cosim.network.readout import Readout, check_readouts
from cosim.network.sensing import calibrate_network, levels_per_of, readouts_of
from cosim.surrogate.calibration import Calibration, by_pair, group_of

READ: tuple[Mode, ...] = ("nominal", "iid")


def several_bits() -> Network:
    """The convolution of `two_layers`, with two bits of weights and of activations."""
    return two_layers(weight_bits=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("codes", [8, 20])
def test_batches_blocks_and_threads_change_nothing(mode: Mode, codes: int, monkeypatch: pytest.MonkeyPatch):
    network, rng = several_bits(), np.random.default_rng(1)
    readouts, images = random_pair_readouts(network, rng, codes), random_images(30, network, rng)
    whole = forward(network, images, mode=mode, readouts=readouts, seed=3)
    part = forward(network, images[7:20], mode=mode, readouts=readouts, seed=3, first_image=7)
    np.testing.assert_array_equal(part, whole[7:20])
    monkeypatch.setattr(inference, "BLOCK_IMAGES", 1)
    again = forward(network, images, mode=mode, readouts=readouts, seed=3, threads=2)
    np.testing.assert_array_equal(again, whole)


def test_kernels_with_and_without_wide_vectors_draw_the_same(monkeypatch: pytest.MonkeyPatch):
    network, rng = several_bits(), np.random.default_rng(1)
    readouts, images = random_pair_readouts(network, rng), random_images(20, network, rng)
    wide = trace(network, images, mode="iid", readouts=readouts, seed=3)
    monkeypatch.setattr(read_tables, "can_be_wide", lambda: False)
    narrow = trace(network, images, mode="iid", readouts=readouts, seed=3)
    for one, other in zip(wide, narrow, strict=True):
        np.testing.assert_array_equal(one.sums, other.sums)


def test_the_same_levels_for_every_pair_are_those_of_a_layer():
    """Bit for bit in nominal; in iid the draws are others, of the same distribution."""
    network, rng = several_bits(), np.random.default_rng(1)
    images = random_images(200, network, rng)
    shared = random_readouts(network, rng)
    pairs = {
        layer.name: {(n, *pair): each for pair in layer.bit_pairs for n, each in shared[layer.name].items()}
        for layer in network.binary_layers
    }
    for per_layer, per_pair in zip(
        *(trace(network, images, mode="nominal", readouts=each) for each in (shared, pairs)), strict=True
    ):
        np.testing.assert_array_equal(per_pair.sums, per_layer.sums)
    one, other = (trace(network, images, mode="iid", readouts=each)[1].sums.astype(float) for each in (shared, pairs))
    assert not np.array_equal(one, other)
    spread = (one - one.mean(axis=0)).std()
    # Reads of the same counts, drawn independently: their difference has a mean of 0 within five sigma.
    assert abs((one - other).mean()) < 5 * np.sqrt(2) * spread / np.sqrt(one.size)
    np.testing.assert_allclose(other.var(), one.var(), rtol=0.05)


@pytest.mark.parametrize("mode", READ)
def test_every_pair_is_read_with_its_own_levels(mode: Mode):
    """A readout that says which pair it is of, whatever the count: sums tell how often each was used, and its worth."""
    network = two_layers(3, 2)
    layer, mapping = network.layers[1], map_network(network, 64)["b"]
    images, rng = random_images(4, network, np.random.default_rng(0)), np.random.default_rng(1)
    readouts = random_pair_readouts(network, rng)
    for told in layer.bit_pairs:
        readouts["b"] = {
            (n, *pair): constant_readout(n, int(pair == told)) for pair in layer.bit_pairs for n in mapping.kinds
        }
        sums = trace(network, images, mode=mode, readouts=readouts)[1].sums.reshape(4, 9, -1)
        arrays = (mapping.n_active > 0).sum(axis=1)[mapping.kind]
        np.testing.assert_array_equal(sums, np.broadcast_to(2 ** sum(told) * arrays, sums.shape))


def constant_readout(n_active: int, value: int) -> Readout:
    counts, centroid = n_active + 1, np.array([value], np.int32)
    return Readout(np.ones((counts, 1)), np.zeros(counts, np.int64), centroid, 0)


def test_bits_of_a_weight_are_drawn_independently():
    """Equal columns and equal levels for both bits of the weights: the same draws would give the same codes."""
    network, rng = several_bits(), np.random.default_rng(1)
    layer = network.layers[1]
    layer = replace(layer, packed=np.concatenate([layer.packed[:9]] * 2))
    network = replace(network, layers=(network.layers[0], layer, network.layers[2]))
    readouts, kinds = random_pair_readouts(network, rng), map_network(network, 64)["b"].kinds
    same = {n: random_readout(n, 8, rng) for n in kinds}
    none = {n: replace(constant_readout(n, 0), fraction_bits=7) for n in kinds}
    images = np.zeros((300, 5, 5, 3), np.uint8)
    drawn = []
    for only in (0, 1):
        readouts["b"] = {
            (n, i, j): (same if (i, j) == (only, 0) else none)[n] for i, j in layer.bit_pairs for n in kinds
        }
        drawn.append(trace(network, images, mode="iid", readouts=readouts, seed=5)[1].sums.astype(float) / 2**only)
    a, b = (each - each.mean(axis=0) for each in drawn)
    np.testing.assert_allclose(b.var(), a.var(), rtol=0.05)
    assert abs((a * b).mean() / a.var()) < 4 / np.sqrt(a.size)  # |r| of independent draws, four sigma


def uneven() -> Network:
    """Three bits of activations that are mostly near 0, and weights of two bits: planes of quite different sums."""
    rng = np.random.default_rng(3)
    weights = rng.choice([-3, -1, 1, 3], (40, 128), p=[0.05, 0.3, 0.6, 0.05])
    bits = [(weights + 3) // 2 >> bit & 1 for bit in range(2)]
    packed = pack_signs(np.concatenate([2 * bit - 1 for bit in bits]).astype(np.int8))
    steps = np.tile(np.array([-5000, -4000, -3000, 0, 800, 5000, 9000], np.int32), (128, 1))
    quantizer = Quantizer(steps, np.ones(128, np.int8))
    first = DenseLayer("first", "pixels", 90, pack_signs(random_signs(rng, 128, 90)), quantizer)
    affine = Affine(np.ones(40, "f4"), np.zeros(40, "f4"))
    second = DenseLayer("second", "binary", 128, packed, affine, weight_bits=2, activation_bits=3)
    return Network("uneven", (first, second), 40, (90,))


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_levels_of_a_pair_are_the_best_for_it_and_so_for_the_sum(bits: int):
    """Each pair's squared error is at most that of the layer's common levels; here the sum's is too."""
    network, surrogate = uneven(), surrogate_of_64_rows()
    images = random_images(300, network, np.random.default_rng(5))
    exact = trace(network, images, mode="ideal")[1].sums.astype(float)
    error: dict[str, float] = {}
    by_pairs: dict[str, list[float]] = {}
    for per in ("layer", "pair"):
        calibration = calibrate_network(network, surrogate, images, sensing="differential", bits=bits, levels_per=per)
        found = trace(network, images, mode="nominal", readouts=readouts_of(surrogate, calibration))[1]
        error[per] = float(np.mean((found.sums / 2**found.fraction_bits - exact) ** 2))
        by_pairs[per] = pair_errors(network, images, calibration)
    assert all(a <= b + 1e-9 for a, b in zip(by_pairs["pair"], by_pairs["layer"], strict=True))
    assert sum(by_pairs["pair"]) < 0.9 * sum(by_pairs["layer"])
    assert error["pair"] < 0.9 * error["layer"]


def pair_errors(network: Network, images: np.ndarray, calibration: Calibration) -> list[float]:
    """The mean squared error of each pair of the second layer, from counts and thresholds alone."""
    histograms = partial_sum_histogram(network, images, levels_per="pair")["second"]
    found = []
    for key, histogram in histograms.items():
        group = group_of("second", key) if ("second", *key) in calibration.levels else ("second", key[0])
        levels, n = calibration.levels[group], key[0]
        counts = np.arange(n + 1)
        code = (counts[:, None] < levels.threshold_count).sum(axis=1)
        squares = (levels.centroid_mac[code] - (n - 2 * counts)) ** 2
        found.append(float(histogram @ squares / histogram.sum()))
    return found


def test_with_enough_levels_nominal_is_exact():
    network, surrogate = uneven(), surrogate_of_64_rows()
    images = random_images(50, network, np.random.default_rng(5))
    calibration = calibrate_network(network, surrogate, images, sensing="differential", bits=6)
    readouts = readouts_of(surrogate, calibration)
    assert set(by_pair(readouts["second"])) == {(i, j) for i in range(2) for j in range(3)}
    ideal = forward(network, images, mode="ideal")
    np.testing.assert_array_equal(forward(network, images, mode="nominal", readouts=readouts), ideal)
    assert not np.array_equal(forward(network, images, mode="iid", readouts=readouts), ideal)
    slow, _ = reference.trace(network, images[:5], "iid", readouts, seed=2)
    np.testing.assert_array_equal(forward(network, images[:5], mode="iid", readouts=readouts, seed=2), slow)


@pytest.mark.parametrize("seen", [True, False])
def test_a_pair_that_is_never_read_has_the_levels_of_the_layer(seen: bool):
    """A high bit that no training image sets turns all of its rows off."""
    network, surrogate = uneven(), surrogate_of_64_rows()
    first, second = network.layers
    low, high = np.full((128, 2), -(2**20), "i4"), np.full((128, 5), 2**20, "i4")
    value = np.concatenate([low[:, :1], low[:, 1:] * 0, high], axis=1)  # Levels 1 and 2, so never the third bit.
    quantizer = Quantizer(value if not seen else first.output.value, np.ones(128, "i1"))
    network = replace(network, layers=(replace(first, output=quantizer), replace(second, input="on_off")))
    images = random_images(50, network, np.random.default_rng(5))
    levels = calibrate_network(network, surrogate, images, sensing="single_ended").levels
    common = calibrate_network(network, surrogate, images, sensing="single_ended", levels_per="layer").levels
    same = np.array_equal(levels["second", 64, 0, 2].reference_v, common["second", 64].reference_v)
    assert same != seen


def test_readouts_of_other_pairs_are_refused():
    network = two_layers(2)
    mappings = map_network(network, 64)
    good = random_pair_readouts(network, np.random.default_rng(0))
    check_readouts(network, good, mappings)
    some = {key: each for key, each in good["b"].items() if key[1:] != (0, 1)}
    lost = {key: each for key, each in good["b"].items() if key != (64, 0, 1)}
    other = next(iter(good["b"].values()))
    wrong = {
        "layer b: no readouts of weight bit 0 with activation bit 1": some,
        "layer b, weight bit 0, activation bit 1: no readout for 64 active rows": lost,
        "layer b: readouts of pairs of bits beside those of weight_bits 1 and activation_bits 2": good["b"]
        | {(64, 1, 0): other},
        "must have the same fraction_bits": good["b"] | {(64, 0, 1): replace(good["b"][64, 0, 1], fraction_bits=3)},
    }
    for message, readouts in wrong.items():
        with pytest.raises(InputError, match=message):
            check_readouts(network, good | {"b": readouts}, mappings)


def test_a_choice_without_a_difference_is_refused():
    surrogate, several = surrogate_of_64_rows(), uneven()
    one = of_one_bit(several_bits())
    assert [levels_per_of(one), levels_per_of(several, adc="column_adc")] == [None, None]
    assert [levels_per_of(several, each) for each in (None, "pair", "layer")] == ["pair", "pair", "layer"]
    images = random_images(3, one, np.random.default_rng(0))
    for per in ("layer", "pair"):
        with pytest.raises(InputError, match=f"levels_per {per} with network levels, every layer of which has one bit"):
            calibrate_network(one, surrogate, images, sensing="single_ended", levels_per=per)
        with pytest.raises(InputError, match=f"levels_per {per} with a converter, whose levels are stated"):
            levels_per_of(several, per, "column_adc")
    for wrong in (lambda: levels_per_of(several, "bit"), lambda: partial_sum_histogram(one, images, levels_per="bit")):
        with pytest.raises(InputError, match="levels_per must be one of layer, pair, got 'bit'"):
            wrong()
