"""Network files with convolutions, and what a damaged or wrong one says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_convolutions import one_convolution, random_conv_network
from random_networks import random_images, random_network

from cosim import hdf5
from cosim.errors import InputError
from cosim.hdf5 import Content
from cosim.network.files import FILETYPE, VERSION, load_network, save_network
from cosim.network.inference import forward
from cosim.network.layers import ConvLayer, Residual


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.booleans())
def test_a_network_comes_back_as_it_was(tmp_path: Path, seed: int, binary_images: bool):
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng, binary_images=binary_images)
    save_network(network, tmp_path / "a.h5")
    back = load_network(tmp_path / "a.h5")
    assert (back.image_shape, back.pixel_threshold) == (network.image_shape, network.pixel_threshold)
    for before, after in zip(network.layers, back.layers, strict=True):
        assert (type(before), before.name, before.source) == (type(after), after.name, after.source)
        if isinstance(before, ConvLayer):
            assert (before.window, before.pool) == (after.window, after.pool)
        assert type(before.output) is type(after.output)
        if isinstance(before.output, Residual):
            assert (before.output.shortcut, before.output.hard_tanh) == (after.output.shortcut, after.output.hard_tanh)
    images = random_images(3, network, rng)
    np.testing.assert_array_equal(forward(back, images, mode="ideal"), forward(network, images, mode="ideal"))


def test_a_file_of_version_1_0_is_read(tmp_path: Path):
    network = random_network((100, 70, 10), np.random.default_rng(0))
    save_network(network, tmp_path / "new.h5")
    content = hdf5.read(tmp_path / "new.h5", filetype=FILETYPE, major=1)
    assert "layer_options" not in content.attributes
    old = Content({k: v for k, v in content.attributes.items() if k not in hdf5.RESERVED}, content.datasets)
    hdf5.write(tmp_path / "old.h5", old, filetype=FILETYPE, version=(1, 0))
    images = random_images(5, network, np.random.default_rng(1))
    loaded = load_network(tmp_path / "old.h5")
    np.testing.assert_array_equal(forward(loaded, images, mode="ideal"), forward(network, images, mode="ideal"))


WINDOW = {"in_shape": [1, 6, 6], "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "pad_value": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("[", "layer_options, all: Invalid JSON"),
        ("[]", "layer_options, all: Input should be"),
        ("{}", "a convolution needs a window"),
        ({"window": WINDOW | {"dilation": [2, 2]}}, "unknown keys: dilation"),
        ({"window": WINDOW, "groups": 2}, "unknown keys: groups"),
        ({"window": WINDOW | {"kernel": [3]}}, "window.kernel.1: Field required"),
        ({"window": WINDOW | {"kernel": [3.5, 3]}}, "window.kernel.0: Input should be a valid integer"),
        ({"window": WINDOW | {"stride": [0, 1]}}, "stride must be 2 integers from 1"),
        ({"window": WINDOW | {"padding": [3, 0]}}, "padding must be smaller than the kernel"),
        ({"window": WINDOW | {"kernel": [9, 9]}}, "larger than the map"),
        ({"window": WINDOW | {"pad_value": 2}}, "window.pad_value: Input should be -1, 0 or 1"),
        ({"window": WINDOW | {"in_shape": [2, 6, 6]}}, "in_features is 9, but a window"),
        ({"window": WINDOW | {"in_shape": [1, 7, 6]}}, r"a map of \(1, 7, 6\), but an image has the shape"),
        ({"window": WINDOW | {"pad_value": 1}}, "pixels are padded with 0"),
        ({"window": WINDOW, "source": "conv0"}, "the first layer takes the image"),
        ({"window": WINDOW, "residual": {}}, "dataset 'scale' is missing"),
        ({"window": WINDOW, "pool": {"size": [2, 2], "stride": [2, 2], "of": "signs"}}, "pool.of: Input should be"),
        ({"window": WINDOW, "pool": {"size": [2, 2], "stride": [2, 2], "padding": [2, 2]}}, "padding"),
        ({"window": WINDOW, "pool": {"size": [7, 7], "stride": [1, 1]}}, "larger than the map"),
        ({"window": WINDOW, "pool": {"size": [2, 2], "stride": [2, 2]}}, "108 inputs, but layer conv has a map of"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict | str, message: str):
    text = options if isinstance(options, str) else json.dumps(options)
    with pytest.raises(InputError, match=message) as caught:
        load_network(with_options(tmp_path, [text, "{}"]))
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_options_of_another_number_of_layers_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="layers and layer_options differ in length"):
        load_network(with_options(tmp_path, [json.dumps({"window": WINDOW})]))


def with_options(tmp_path: Path, options: list[str]) -> Path:
    """A file of a convolution and a dense layer whose options are replaced."""
    save_network(one_convolution(1, 3, pixels=True), tmp_path / "good.h5")
    content = hdf5.read(tmp_path / "good.h5", filetype=FILETYPE, major=1)
    kept = {k: v for k, v in content.attributes.items() if k not in hdf5.RESERVED}
    hdf5.write(
        tmp_path / "bad.h5",
        Content(kept | {"layer_options": options}, content.datasets),
        filetype=FILETYPE,
        version=VERSION,
    )
    return tmp_path / "bad.h5"
