from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from random_networks import random_images, random_network, random_readouts
from scipy.stats import chi2

from cosim.errors import InputError
from cosim.network import inference
from cosim.network.inference import evaluate, forward, partial_sum_histogram, trace
from cosim.network.layers import Network
from cosim.network.mapping import map_inputs
from cosim.network.program import MODES, Mode
from cosim.network.readout import Readout, Readouts, exact_readout
from cosim.network.reference import minus_counts

FALSE_ALARM = 1e-4


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def network(rng: np.random.Generator) -> Network:
    return random_network((100, 150, 70, 10), rng)


@pytest.fixture(scope="module")
def readouts(network: Network, rng: np.random.Generator) -> Readouts:
    return random_readouts(network, rng)


@pytest.fixture(scope="module")
def images(network: Network, rng: np.random.Generator) -> np.ndarray:
    return random_images(300, network, rng)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_does_not_depend_on_its_batch(network: Network, readouts: Readouts, images: np.ndarray, mode: Mode):
    whole = forward(network, images, mode=mode, readouts=readouts, seed=3, first_image=1000)
    for part in (slice(0, 1), slice(5, 6), slice(60, 70), slice(13, 299)):
        alone = forward(network, images[part], mode=mode, readouts=readouts, seed=3, first_image=1000 + part.start)
        np.testing.assert_array_equal(alone, whole[part])


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_an_image_does_not_depend_on_the_block(
    network: Network,
    readouts: Readouts,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
):
    whole = forward(network, images, mode="iid", readouts=readouts)
    monkeypatch.setattr(inference, "BLOCK_IMAGES", block)
    np.testing.assert_array_equal(forward(network, images, mode="iid", readouts=readouts), whole)


@pytest.mark.parametrize("mode", MODES)
def test_threads_change_nothing(network: Network, readouts: Readouts, images: np.ndarray, mode: Mode):
    one, many = (forward(network, images, mode=mode, readouts=readouts, seed=1, threads=threads) for threads in (1, 5))
    np.testing.assert_array_equal(one, many)


def test_seed_and_image_number_change_the_draws(network: Network, readouts: Readouts, images: np.ndarray):
    base = forward(network, images, mode="iid", readouts=readouts, seed=1)
    assert np.mean(forward(network, images, mode="iid", readouts=readouts, seed=2) == base) < 0.05
    assert np.mean(forward(network, images, mode="iid", readouts=readouts, seed=1, first_image=1) == base) < 0.05
    again = forward(network, images, mode="iid", readouts=readouts, seed=1)
    np.testing.assert_array_equal(again, base)


def test_equal_images_draw_independently(network: Network, readouts: Readouts, images: np.ndarray):
    same = np.repeat(images[:1], 50, axis=0)
    sums = trace(network, same, mode="iid", readouts=readouts)[1].sums
    assert np.all(sums.std(axis=0) > 0)
    # 70 columns, 49 pairs of neighbouring images: |r| of independent draws stays below 4 / sqrt(3430).
    centred = (sums - sums.mean(axis=0)) / sums.std(axis=0)
    assert abs(np.mean(centred[1:] * centred[:-1])) < 4 / np.sqrt(49 * 70)


def one_hot(readouts: Readouts) -> Readouts:
    """The same readouts with all probability on the nominal code."""
    return {
        name: {n: replace(readout, probability=np.eye(readout.codes)[readout.nominal]) for n, readout in kinds.items()}
        for name, kinds in readouts.items()
    }


@pytest.mark.parametrize("codes", [2, 3, 8, 31, 65, 66])
def test_without_variation_iid_is_nominal(network: Network, images: np.ndarray, codes: int):
    readouts = one_hot(random_readouts(network, np.random.default_rng(codes), codes))
    nominal, iid = (forward(network, images, mode=mode, readouts=readouts) for mode in ("nominal", "iid"))
    np.testing.assert_array_equal(iid, nominal)


@pytest.mark.parametrize("rows", [64, 20, 128, 100])
def test_with_one_code_a_count_every_mode_is_ideal(network: Network, images: np.ndarray, rows: int):
    readouts = {
        layer.name: {n: exact_readout(n) for n in map_inputs(layer.in_features, rows).kinds}
        for layer in network.binary_layers
    }
    ideal = forward(network, images, mode="ideal")
    for mode in ("nominal", "iid"):
        read = forward(network, images, mode=mode, readouts=readouts, rows=rows)
        np.testing.assert_array_equal(read, ideal)


@pytest.mark.parametrize("fraction_bits", [0, 4, 8])
def test_fixed_point_does_not_change_exact_levels(network: Network, images: np.ndarray, fraction_bits: int):
    def scaled(n: int) -> Readout:
        exact = exact_readout(n)
        return replace(exact, centroid=exact.centroid << fraction_bits, fraction_bits=fraction_bits)

    readouts = {
        layer.name: {n: scaled(n) for n in map_inputs(layer.in_features).kinds} for layer in network.binary_layers
    }
    read = forward(network, images, mode="nominal", readouts=readouts)
    np.testing.assert_array_equal(read, forward(network, images, mode="ideal"))


@pytest.mark.parametrize("codes", [2, 8, 11])
def test_sampled_codes_follow_the_table(codes: int):
    """Chi-square of the codes of every count with enough reads; the seed is fixed, false-alarm rate 1e-4 in all."""
    rng = np.random.default_rng(codes)
    network = random_network((40, 64, 200), rng)
    images = random_images(1000, network, rng)
    table = random_readouts(network, rng, codes)["dense1"][64]
    # A centroid that is its code shows the code in the sum of the only sub-array.
    shown = replace(table, centroid=np.arange(codes, dtype=np.int32), fraction_bits=0)
    hidden, read = trace(network, images, mode="iid", readouts={"dense1": {64: shown}}, seed=11)
    counts = minus_counts(hidden.signs[:, None], network.layers[1].weights, map_inputs(64))[:, 0, :, 0]
    observed = np.zeros(table.probability.shape)
    np.add.at(observed, (counts.ravel(), read.sums.ravel()), 1)
    assert observed[table.probability == 0].sum() == 0
    expected = table.probability * observed.sum(axis=1, keepdims=True)
    cells = (expected >= 10) & (table.probability < 1)
    statistic = float(((observed - expected)[cells] ** 2 / expected[cells]).sum())
    # Rows with all their cells in lose one degree of freedom; counting none lost only widens the upper limit.
    freedom = int(cells.sum()) - int((cells.sum(axis=1) == (table.probability > 0).sum(axis=1)).sum())
    assert freedom > 10
    assert chi2.ppf(FALSE_ALARM / 2, freedom) < statistic < chi2.isf(FALSE_ALARM / 2, int(cells.sum()))


def test_histogram_counts_every_partial_sum(network: Network, images: np.ndarray):
    found = partial_sum_histogram(network, images)
    steps = trace(network, images, mode="ideal")
    assert set(found) == {"dense1", "dense2"}
    for layer, before in zip(network.binary_layers, steps, strict=False):
        mapping = map_inputs(layer.in_features)
        counts = minus_counts(before.signs[:, None], layer.weights, mapping)
        assert set(found[layer.name]) == set(mapping.kinds)
        for n, histogram in found[layer.name].items():
            expected = np.bincount(counts[..., mapping.n_active[0] == n].ravel(), minlength=n + 1)
            np.testing.assert_array_equal(histogram, expected)
    one = partial_sum_histogram(network, images, threads=1)
    np.testing.assert_array_equal(one["dense1"][64], found["dense1"][64])


def test_evaluation_adds_up(network: Network, readouts: Readouts, images: np.ndarray):
    labels = np.arange(len(images)) % 10
    result = evaluate(network, images, labels, mode="nominal", readouts=readouts)
    logits = forward(network, images, mode="nominal", readouts=readouts)
    np.testing.assert_array_equal(result.predictions, logits.argmax(axis=1))
    right = int((result.predictions == labels).sum())
    assert result.accuracy.value == right / 300
    assert result.accuracy.low < result.accuracy.value < result.accuracy.high
    assert result.confusion.sum() == result.n == 300
    assert result.confusion[4].sum() == (labels == 4).sum()
    assert result.partial_sums == 300 * (3 * 70 + 2 * 10)
    assert result.seconds > 0


def test_images_may_be_flat_or_not_contiguous(images: np.ndarray):
    network = replace(random_network((100, 20, 3), np.random.default_rng(0)), image_shape=(10, 10))
    flat = forward(network, images, mode="ideal")
    np.testing.assert_array_equal(forward(network, images.reshape(-1, 10, 10), mode="ideal"), flat)
    np.testing.assert_array_equal(forward(network, images[::2], mode="ideal"), flat[::2])
    np.testing.assert_array_equal(forward(network, np.asfortranarray(images), mode="ideal"), flat)


def test_memory_does_not_grow_with_the_images():
    """Beyond the logits, more images than a few blocks take no more memory."""
    rng = np.random.default_rng(0)
    network = random_network((784, 512, 10), rng)
    peaks: list[int] = []
    for blocks in (4, 40):
        images = random_images(blocks * inference.BLOCK_IMAGES, network, rng)
        forward(network, images[:1], mode="ideal")
        tracemalloc.start()
        forward(network, images, mode="ideal", threads=1)
        peaks.append(tracemalloc.get_traced_memory()[1] - images.shape[0] * 10 * 4)
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]  # A block's arrays take some 300 kB; 36 more blocks would be 10 MB.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "noisy"}, "mode must be one of ideal, nominal, iid, got 'noisy'"),
        ({"readouts": None}, "mode iid needs readouts"),
        ({"readouts": {}}, "layer dense1: no readouts"),
        ({"images": np.zeros((3, 99), np.uint8)}, r"images must be uint8 of shape \(image, 100\)"),
        ({"images": np.zeros((3, 100), np.float32)}, "got float32"),
        ({"images": np.zeros((0, 100), np.uint8)}, "not empty"),
        ({"labels": np.zeros(4, np.int64)}, "labels must be 3 integers"),
        ({"labels": np.zeros(3)}, "labels must be 3 integers, got float64"),
        ({"labels": np.array([0, 10, 3])}, "labels must be 0 to 9, got 0 to 10"),
        ({"labels": np.array([0, -1, 3])}, "labels must be 0 to 9"),
        ({"seed": -1}, "seed must be"),
        ({"threads": 0}, "threads must be positive"),
        ({"first_image": -1}, "first_image must not be negative"),
        ({"rows": 257}, "rows of a sub-array must be 1 to 256"),
    ],
)
def test_wrong_arguments_are_refused(network: Network, readouts: Readouts, changes: dict, message: str):
    arguments = {"images": np.zeros((3, 100), np.uint8), "labels": np.zeros(3, np.int64), "mode": "iid"}
    with pytest.raises(InputError, match=message):
        evaluate(network, **(arguments | {"readouts": readouts} | changes))
