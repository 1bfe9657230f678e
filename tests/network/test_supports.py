"""Factors of blocks of weights (S4), and factors of outputs (XNOR-Net): digital, exact, and never left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_convolutions import random_signs
from random_networks import random_images, random_readouts

from cosim.errors import InputError
from cosim.network.files import load_network, save_network
from cosim.network.fixed_point import fixed_point
from cosim.network.inference import forward, partial_sum_histogram
from cosim.network.layers import Affine, BatchNorm, DenseLayer, Network, Support, Threshold, affine_of, scaled
from cosim.network.layout import map_network
from cosim.network.packing import pack_signs
from cosim.network.partition import partition_report


def supported(block: int = 16, inputs: int = 100) -> Network:
    rng = np.random.default_rng(0)
    affine = Affine(np.ones(5, "f4"), np.zeros(5, "f4"))
    value = rng.integers(1, 256, (-(-inputs // block), 5)).astype(np.int32)
    packed = pack_signs(random_signs(rng, 5, inputs))
    layer = DenseLayer("a", "binary", inputs, packed, affine, support=Support(block, value, 6))
    return Network("n", (layer,), 5, (inputs,), {}, 128)


def test_blocks_are_read_one_by_one():
    network = supported()
    mapping = map_network(network, 64)["a"]
    assert (mapping.arrays, mapping.kinds) == (7, (4, 16))
    histogram = partial_sum_histogram(network, random_images(10, network, np.random.default_rng(0)))
    assert set(histogram["a"]) == {4, 16}
    (report,) = partition_report(network)
    assert (report.rows, report.down, report.reads, report.cycles) == (64, 2, 35, 4)


def test_every_factor_counts():
    network = supported()
    images = random_images(10, network, np.random.default_rng(0))
    readouts = random_readouts(network, np.random.default_rng(1))
    support = network.layers[0].support
    for mode in ("ideal", "nominal", "iid"):
        before = forward(network, images, mode=mode, readouts=readouts)
        for block in range(7):
            value = support.value.copy()
            value[block] += 50
            layer = replace(network.layers[0], support=replace(support, value=value))
            changed = forward(replace(network, layers=(layer,)), images, mode=mode, readouts=readouts)
            assert np.mean(changed != before) > 0.5, (mode, block)


def test_files_keep_supports(tmp_path: Path):
    network = supported()
    save_network(network, tmp_path / "n.h5")
    support = load_network(tmp_path / "n.h5").layers[0].support
    assert (support.block, support.fraction_bits) == (16, 6)
    np.testing.assert_array_equal(support.value, network.layers[0].support.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": np.zeros((7, 5), "i4")}, "factors of a support must be positive"),
        ({"block": 0}, "a block must be 1 to 256 inputs"),
        ({"block": 300}, "a block must be 1 to 256 inputs"),
        ({"fraction_bits": 16}, "fraction_bits 0 to 15"),
        ({"block": 10}, r"layer a: a support of blocks of 10 must be \(10, 5\), got \(7, 5\)"),
    ],
)
def test_wrong_supports_are_refused(changes: dict, message: str):
    layer = supported().layers[0]
    with pytest.raises(InputError, match=message):
        replace(layer, support=replace(layer.support, **changes))


def test_supports_that_do_not_fit_a_layer_or_its_sub_arrays_are_refused():
    network, images = supported(), np.zeros((1, 100), np.uint8)
    with pytest.raises(InputError, match="layer a: a support is for weights of one bit"):
        replace(network.layers[0], input="pixels")
    with pytest.raises(InputError, match=r"layer a: a support of blocks of 16 needs .* got 40 rows"):
        forward(network, images, mode="ideal", rows=40)
    with pytest.raises(InputError, match="layer a: a support needs the row order flat, got positions"):
        forward(network, images, mode="ideal", order="positions")
    large = replace(network.layers[0].support, value=np.full((7, 5), 10_000, "i4"))
    wide = replace(network, layers=(replace(network.layers[0], support=large),))
    with pytest.raises(
        InputError, match="layer a: 7 sub-arrays with weights, activations or supports up to 10000 are more than 3"
    ):
        forward(wide, images, mode="ideal")


def test_a_batch_norm_takes_in_the_factors_of_xnor_net():
    """Thresholds and affine maps of scaled sums against torch in float64; one float32 rounding of mean and variance."""
    rng = np.random.default_rng(0)
    moments = [rng.normal(0, 1, 200).astype("f4") for _ in range(3)]
    norm = BatchNorm(*moments, rng.uniform(0.5, 2, 200).astype("f4"), 1e-5)
    factor = rng.uniform(0.01, 0.2, 200).astype("f4")
    sums = rng.integers(-64, 65, (50, 200))
    module = torch.nn.BatchNorm1d(200, eps=norm.epsilon).double().eval()
    names = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}
    module.load_state_dict(
        {name: torch.from_numpy(getattr(norm, ours).astype(float)) for name, ours in names.items()}, strict=False
    )
    with torch.no_grad():
        expected = module(torch.from_numpy(sums * factor.astype(float))).numpy()
    scale, offset = affine_of(scaled(norm, factor))
    np.testing.assert_allclose(sums * scale.astype(float) + offset, expected, rtol=1e-6, atol=1e-5)
    for wrong in (-factor, 0 * factor, np.full(200, np.nan, "f4"), factor[:5]):
        with pytest.raises(InputError, match="factor"):
            scaled(norm, wrong)


def test_a_threshold_lies_between_the_sums_of_a_support():
    """In units of the support's last bit, from the batch norm itself: as fine as the sums are."""
    norm = BatchNorm(*(np.array([v], "f4") for v in (1, 0, 4.4, 1)), 0.0)
    threshold = Threshold(np.array([5], "i4"), np.array([1], "i1"))
    assert fixed_point(threshold, norm, 3).tolist() == [36]  # 4.4 * 8 = 35.2
