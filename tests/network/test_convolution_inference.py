"""What must hold for convolutions as for dense layers: batches, threads, seeds, tables, memory, refusals."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from random_convolutions import Builder, one_convolution, random_conv_network, random_signs
from random_networks import random_images, random_readouts
from scipy.stats import chi2

from cosim.errors import InputError
from cosim.network import inference, reference
from cosim.network.inference import forward, trace
from cosim.network.layers import Affine, ConvLayer, DenseLayer, Network, Pool, Residual, Threshold, Window, dyadic
from cosim.network.layout import map_network
from cosim.network.packing import pack_signs
from cosim.network.program import MODES, Mode
from cosim.network.readout import Readouts

FALSE_ALARM = 1e-4


@pytest.fixture(scope="module")
def network() -> Network:
    rng = np.random.default_rng(6)
    builder = Builder(rng, (3, 9, 8), 40, "pixels")
    builder.convolution()
    builder.block()
    builder.dense(10, last=True)
    return Network("conv", tuple(builder.layers), 10, (9, 8, 3))


@pytest.fixture(scope="module")
def readouts(network: Network) -> Readouts:
    return random_readouts(network, np.random.default_rng(4))


@pytest.fixture(scope="module")
def images(network: Network) -> np.ndarray:
    return random_images(150, network, np.random.default_rng(5))


@pytest.mark.parametrize("mode", MODES)
def test_batch_block_and_threads_change_nothing(
    network: Network, readouts: Readouts, images: np.ndarray, mode: Mode, monkeypatch: pytest.MonkeyPatch
):
    whole = forward(network, images, mode=mode, readouts=readouts, seed=3, first_image=1000)
    part = forward(network, images[13:99], mode=mode, readouts=readouts, seed=3, first_image=1013, threads=3)
    np.testing.assert_array_equal(part, whole[13:99])
    for name, value in (("BLOCK_IMAGES", 1), ("BLOCK_IMAGES", 7), ("BLOCK_BYTES", 1)):
        monkeypatch.setattr(inference, name, value)
        again = forward(network, images, mode=mode, readouts=readouts, seed=3, first_image=1000, threads=2)
        np.testing.assert_array_equal(again, whole)


def test_positions_and_images_draw_independently():
    """A map of one value, where every position and every image has the same counts."""
    network = one_convolution(64, 40, pad_value=1)
    readouts = random_readouts(network, np.random.default_rng(0))
    sums = trace(network, np.full((50, 6, 6, 64), 200, np.uint8), mode="iid", readouts=readouts)[0].sums.astype(float)
    centred = (sums - sums.mean(axis=(0, 2, 3), keepdims=True)) / sums.std(axis=(0, 2, 3), keepdims=True)
    for first, second in (
        (centred[1:], centred[:-1]),
        (centred[..., 1:], centred[..., :-1]),
        (centred[:, :, 1:], centred[:, :, :-1]),
    ):
        assert abs(np.mean(first * second)) < 4 / np.sqrt(first.size)  # |r| of independent draws, four sigma
    assert np.all(sums.std(axis=(0, 2, 3)) > 0)


def test_seeds_and_image_numbers_change_the_draws(network: Network, readouts: Readouts, images: np.ndarray):
    base = forward(network, images, mode="iid", readouts=readouts, seed=1)
    for change in ({"seed": 2}, {"first_image": 1}):
        other = forward(network, images, mode="iid", readouts=readouts, **({"seed": 1} | change))
        assert np.mean(other == base) < 0.05


def test_without_variation_iid_is_nominal(network: Network, readouts: Readouts, images: np.ndarray):
    sure = {
        name: {n: replace(each, probability=np.eye(each.codes)[each.nominal]) for n, each in kinds.items()}
        for name, kinds in readouts.items()
    }
    nominal, iid = (forward(network, images, mode=mode, readouts=sure) for mode in ("nominal", "iid"))
    np.testing.assert_array_equal(iid, nominal)


def test_sampled_codes_follow_the_table_of_their_number_of_active_rows():
    """Chi-square for each number of active rows of a zero-padded layer; the false-alarm rate is for all of them."""
    network = one_convolution(5, 60)
    mapping = map_network(network, 64)["conv"]
    assert mapping.arrays == 1
    assert mapping.kinds == (20, 30, 45)
    rng = np.random.default_rng(8)
    images = rng.integers(0, 256, (400, 6, 6, 5), dtype=np.uint8)
    tables = random_readouts(network, rng)
    shown = {n: replace(t, centroid=np.arange(8, dtype=np.int32), fraction_bits=0) for n, t in tables["conv"].items()}
    read = trace(network, images, mode="iid", readouts=tables | {"conv": shown}, seed=11)[0].sums
    signs = np.where(images.transpose(0, 3, 1, 2) >= 128, 1, -1)
    seen = reference.patches(signs, network.window(0))
    counts = reference.minus_counts(seen, network.layers[0].weights, mapping)[..., 0]
    codes = read.reshape(400, 60, 36).transpose(0, 2, 1)
    for n, table in tables["conv"].items():
        here = mapping.n_active[mapping.kind, 0] == n
        observed = np.zeros(table.probability.shape)
        np.add.at(observed, (counts[:, here].ravel(), codes[:, here].ravel()), 1)
        assert observed[table.probability == 0].sum() == 0
        expected = table.probability * observed.sum(axis=1, keepdims=True)
        cells = (expected >= 10) & (table.probability < 1)
        statistic = float(((observed - expected)[cells] ** 2 / expected[cells]).sum())
        freedom = int(cells.sum()) - int((cells.sum(axis=1) == (table.probability > 0).sum(axis=1)).sum())
        assert freedom > 10
        assert chi2.ppf(FALSE_ALARM / 6, freedom) < statistic < chi2.isf(FALSE_ALARM / 6, int(cells.sum()))


def test_memory_does_not_grow_with_the_images():
    rng = np.random.default_rng(0)
    network = random_conv_network(np.random.default_rng(2))
    peaks: list[int] = []
    for count in (300, 3000):
        images = random_images(count, network, rng)
        forward(network, images[:1], mode="ideal")
        tracemalloc.start()
        forward(network, images, mode="ideal", threads=1)
        peaks.append(tracemalloc.get_traced_memory()[1] - count * 3 * 4)
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 20_000  # 2,700 more images take 8 kB in the list of blocks.


def test_dyadic_parameters_make_every_order_of_operations_equal():
    """On the grid float32 is exact: torch's own batch norm, fused or not, gives the same bits."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    sums = rng.integers(-1152, 1153, (50, 33, 4, 4))
    scale, offset = dyadic(
        rng.normal(0, 0.03, 33).astype("f4"), rng.normal(0, 1, 33).astype("f4"), reach=1152, grid_bits=14
    )
    ours = reference.residual_reals(sums, Residual(scale, offset), 0, None)
    np.testing.assert_array_equal(ours, sums * scale.astype(float)[:, None, None] + offset.astype(float)[:, None, None])
    norm = torch.nn.BatchNorm2d(33, eps=0.0).eval()
    norm.load_state_dict({"weight": torch.from_numpy(scale), "bias": torch.from_numpy(offset)}, strict=False)
    with torch.no_grad():
        theirs = norm(torch.from_numpy(sums.astype(np.float32))).numpy()
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(InputError, match="more than 20 fraction bits leave room for"):
        dyadic(scale, offset, reach=1152, grid_bits=20)


def conv(name: str, in_shape: tuple[int, int, int], columns: int, **changes) -> ConvLayer:
    window = Window(in_shape, (3, 3), padding=(1, 1))
    packed = pack_signs(random_signs(np.random.default_rng(0), columns, window.in_features))
    parts = {
        "name": name,
        "input": "binary",
        "in_features": window.in_features,
        "packed": packed,
        "output": Threshold(np.zeros(columns, "i4"), np.ones(columns, "i1")),
        "window": window,
    }
    return ConvLayer(**(parts | changes))


def stream(columns: int, shortcut: str = "") -> Residual:
    return Residual(np.ones(columns, "f4"), np.zeros(columns, "f4"), shortcut)


def last(inputs: int) -> DenseLayer:
    packed = pack_signs(np.ones((2, inputs), np.int8))
    return DenseLayer("last", "binary", inputs, packed, Affine(np.ones(2, "f4"), np.zeros(2, "f4")))


FIRST = conv("a", (1, 4, 4), 3, input="pixels")
POOL = Pool((2, 2), (2, 2), of="outputs")
SUMS = Pool((2, 2), (2, 2))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((FIRST, conv("b", (2, 4, 4), 3), last(48)), r"layer b: a map of \(2, 4, 4\), but layer a gives \(3, 4, 4\)"),
        ((FIRST, last(40)), r"layer last: 40 inputs, but layer a has a map of \(3, 4, 4\)"),
        ((FIRST, conv("b", (3, 4, 4), 3, source="z"), last(48)), "layer b: no layer 'z' before this one"),
        ((FIRST, conv("b", (3, 4, 4), 3, source="b"), last(48)), "layer b: no layer 'b' before this one"),
        ((FIRST, conv("b", (3, 4, 4), 3, output=stream(3, "a")), last(48)), "from layer a needs a real output"),
        (
            (
                replace(FIRST, output=stream(3)),
                conv("b", (3, 4, 4), 5, output=stream(5, "a")),
                last(80),
            ),
            r"from layer a has the shape \(3, 4, 4\), not \(5, 4, 4\)",
        ),
        (
            (replace(FIRST, output=stream(3)), conv("b", (3, 4, 4), 3, output=stream(3, "a"), pool=SUMS), last(12)),
            r"the shortcut from layer a has the shape \(3, 4, 4\), not \(3, 2, 2\)",
        ),
        ((FIRST, conv("b", (3, 4, 4), 3), replace(last(48), source="a")), "layer b: no layer takes its output"),
        ((FIRST, conv("b", (3, 4, 4), 2, output=last(1).output)), "2x4x4 logits for 2 classes"),
        ((replace(FIRST, input="binary"), last(48)), "pixel_threshold be 1 to 255, got None"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers: tuple[DenseLayer, ...], message: str):
    with pytest.raises(InputError, match=message):
        Network("wrong", layers, 2, (4, 4))


def test_more_refusals():
    with pytest.raises(InputError, match='pixel_threshold is for a first layer that takes "binary"'):
        Network("wrong", (FIRST, last(48)), 2, (4, 4), {}, 128)
    with pytest.raises(InputError, match="pools its sums, not its outputs"):
        conv("b", (3, 4, 4), 3, output=Affine(np.ones(3, "f4"), np.ones(3, "f4")), pool=POOL)
    window = Window((1, 4, 4), (3, 3), padding=(1, 1), pad_value=1)
    with pytest.raises(InputError, match="pixels are padded with 0, got pad_value 1"):
        conv("a", (1, 4, 4), 3, input="pixels", window=window)
    with pytest.raises(InputError, match="in_features is 27, but a window"):
        conv("b", (3, 4, 4), 3, window=Window((3, 4, 4), (1, 1)))
    with pytest.raises(InputError, match="rows of a sub-array must be 1 to 256"):
        forward(Network("n", (FIRST, last(48)), 2, (4, 4)), np.zeros((1, 4, 4), np.uint8), mode="ideal", rows=300)


def test_weights_of_several_bits_are_odd_integers():
    bits = np.array([[1, -1, 1], [1, 1, -1]], np.int8)  # one output: the lowest bit, then the one worth two
    layer = DenseLayer("a", "pixels", 3, pack_signs(bits), Affine(np.ones(1, "f4"), np.zeros(1, "f4")), weight_bits=2)
    assert (layer.out_features, layer.columns, layer.reach) == (1, 2, 3 * 255 * 3)
    assert layer.weights.tolist() == [[3, 1, -1]]
    sums = trace(Network("a", (layer,), 1, (1, 3)), np.array([[[10, 20, 200]]], np.uint8), mode="ideal")[0].sums
    assert sums.tolist() == [[30 + 20 - 200]]


def test_a_digital_layer_is_exact_in_every_mode_and_is_not_read():
    network = one_convolution(8, 6)
    digital = replace(network, layers=(network.layers[0], replace(network.layers[1], digital=True)))
    readouts = random_readouts(digital, np.random.default_rng(0))
    assert set(readouts) == {"conv"}
    images = random_images(20, digital, np.random.default_rng(1))
    first, after = trace(digital, images, mode="iid", readouts=readouts)
    expected = first.signs.reshape(20, -1).astype(int) @ digital.layers[1].weights.T.astype(int)
    np.testing.assert_array_equal(after.sums, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_bits": 0}, "weight_bits must be 1 to 15, got 0"),
        ({"weight_bits": 16}, "weight_bits must be 1 to 15, got 16"),
        ({"weight_bits": 2}, "3 columns are no multiple of 2 bits"),
        ({"weight_bits": 3}, "output has 3 columns, the weights have 1"),
        ({"digital": True, "input": "pixels"}, "a layer of pixels inputs is digital as it is"),
    ],
)
def test_wrong_bits_are_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        conv("b", (3, 4, 4), 3, **changes)
