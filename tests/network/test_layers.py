from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_networks import random_network

from cosim.errors import InputError
from cosim.network.layers import Affine, BatchNorm, DenseLayer, Threshold
from cosim.network.packing import pack_signs


def ones(columns: int) -> np.ndarray:
    return np.ones(columns, np.float32)


def test_weights_come_back_as_signs():
    weights = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (3, 70))
    layer = DenseLayer("a", "binary", 70, pack_signs(weights), Affine(ones(3), ones(3)))
    np.testing.assert_array_equal(layer.weights, weights)
    assert (layer.out_features, layer.reach) == (3, 70)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packed": np.zeros((3, 1), np.uint64)}, r"layer a: packed must be uint64 of shape \(3, 2\)"),
        ({"packed": np.zeros((3, 2), np.int64)}, "packed must be uint64"),
        ({"packed": np.zeros(3, np.uint64)}, "packed must be uint64"),
        ({"packed": np.zeros((0, 2), np.uint64)}, "not empty"),
        ({"packed": np.full((3, 2), 1 << 6, np.uint64)}, "layer a: padding bits after input 70"),
        ({"output": Affine(ones(2), ones(2))}, "output has 2 columns, the weights have 3"),
        ({"batch_norm": BatchNorm(*[ones(4)] * 4, 1e-5)}, "batch norm has 4 columns"),
        ({"input": "analog"}, "input must be one of pixels, binary, on_off"),
        ({"in_features": 0}, "in_features must be positive"),
        ({"in_features": 2**40}, "in_features must be positive and sums below"),
    ],
)
def test_a_wrong_layer_is_refused(changes: dict, message: str):
    layer = DenseLayer("a", "binary", 70, np.zeros((3, 2), np.uint64), Affine(ones(3), ones(3)))
    with pytest.raises(InputError, match=message):
        replace(layer, **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(np.array([np.nan], np.float32), ones(1)), "scale has values that are not finite"),
        (lambda: Affine(ones(1), np.array([np.inf], np.float32)), "offset has values that are not finite"),
        (lambda: Affine(ones(2), ones(3)), r"offset must be float32 of shape \(2,\)"),
        (lambda: Affine(np.ones(2), ones(2)), "scale must be float32"),
        (lambda: Affine(ones(1)[0, ...], ones(1)[0, ...]), "scale must be float32"),
        (lambda: Threshold(np.zeros(2, np.int32), np.array([1, 2], np.int8)), "direction must be -1, 0 or 1"),
        (lambda: Threshold(np.zeros(2, np.int32), np.ones(3, np.int8)), "direction must be int8"),
        (lambda: Threshold(np.zeros(2, np.int64), np.ones(2, np.int8)), "value must be int32"),
        (lambda: BatchNorm(ones(2), ones(2), ones(2), -ones(2), 1e-5), "variance . epsilon must be positive"),
        (lambda: BatchNorm(ones(2), ones(2), ones(2), ones(2), float("nan")), "variance . epsilon"),
        (lambda: BatchNorm(ones(2), np.full(2, np.nan, "f4"), ones(2), ones(2), 0.0), "beta has values"),
    ],
)
def test_wrong_outputs_are_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", ".hidden", "a\n", "\x1b[31m", "ä", 101 * "a"])
def test_names_are_plain_for_they_become_file_names(name: str):
    network = random_network((10, 20, 4), np.random.default_rng(0))
    with pytest.raises(InputError, match="cannot be called"):
        replace(network, name=name)
    with pytest.raises(InputError, match="cannot be called"):
        replace(network, layers=(network.layers[0], replace(network.layers[1], name=name)))
    assert replace(network, name="my-net_1.2").name == "my-net_1.2"


def test_layers_must_follow_each_other():
    network = random_network((10, 20, 30, 4), np.random.default_rng(0))
    first, second, last = network.layers
    wrong = {
        "at least one layer": (),
        "names must be unique": (first, replace(second, name="dense0"), last),
        "the first layer must take": (second, last),
        "only the first layer takes": (first, replace(second, input="pixels"), last),
        "layer dense2: 30 inputs, but layer dense0 has 20 columns": (first, last),
        "the last layer needs an affine output": (first, second),
        "every layer but the last needs a threshold": (
            first,
            replace(second, output=Affine(ones(30), ones(30))),
            last,
        ),
    }
    for message, layers in wrong.items():
        with pytest.raises(InputError, match=message):
            replace(network, layers=layers)
    with pytest.raises(InputError, match="4 logits for 5 classes"):
        replace(network, classes=5)
    with pytest.raises(InputError, match=r"10 inputs, but an image has the shape \(3, 3\)"):
        replace(network, image_shape=(3, 3))
