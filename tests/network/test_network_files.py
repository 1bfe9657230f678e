from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_networks import random_images, random_network

from cosim import hdf5
from cosim.errors import InputError
from cosim.hdf5 import Content, Dataset
from cosim.network.files import FILETYPE, VERSION, load_network, network_path, save_network
from cosim.network.inference import forward
from cosim.network.layers import Network, Threshold


@pytest.fixture
def network() -> Network:
    made = random_network((100, 70, 33, 10), np.random.default_rng(0))
    return replace(made, image_shape=(10, 10), provenance={"data set": "none", "seed": "0"})


def same_arrays(one: object, other: object, names: tuple[str, ...]) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_network_comes_back_as_it_was(network: Network, tmp_path: Path):
    save_network(network, tmp_path / "a.h5")
    back = load_network(tmp_path / "a.h5")
    assert (back.name, back.classes, back.image_shape) == ("random", 10, (10, 10))
    assert back.provenance == network.provenance
    for before, after in zip(network.layers, back.layers, strict=True):
        assert (before.name, before.input, before.in_features) == (after.name, after.input, after.in_features)
        assert type(before.output) is type(after.output)
        names = ("value", "direction") if isinstance(before.output, Threshold) else ("scale", "offset")
        assert same_arrays(before.output, after.output, names)
        assert (before.batch_norm is None) == (after.batch_norm is None)
        if before.batch_norm is not None:
            assert same_arrays(before.batch_norm, after.batch_norm, ("gamma", "beta", "mean", "variance", "epsilon"))
    images = random_images(20, network, np.random.default_rng(1))
    np.testing.assert_array_equal(forward(network, images, mode="ideal"), forward(back, images, mode="ideal"))


def test_weights_take_one_bit_each(tmp_path: Path):
    save_network(random_network((784, 1024, 10), np.random.default_rng(0)), tmp_path / "a.h5")
    assert (tmp_path / "a.h5").stat().st_size < 1024 * (13 * 8 + 6 * 4) + 60_000


def broken(network: Network, tmp_path: Path, attributes: dict | None = None, datasets: dict | None = None) -> Path:
    """A file with some attributes and datasets replaced; None takes one away."""
    save_network(network, tmp_path / "good.h5")
    content = hdf5.read(tmp_path / "good.h5", filetype=FILETYPE, major=VERSION[0])
    kept = {n: a for n, a in content.attributes.items() if n not in hdf5.RESERVED} | (attributes or {})
    arrays = dict(content.datasets) | (datasets or {})
    hdf5.write(
        tmp_path / "bad.h5",
        Content(
            {name: value for name, value in kept.items() if value is not None},
            {name: item for name, item in arrays.items() if item is not None},
        ),
        filetype=FILETYPE,
        version=VERSION,
    )
    return tmp_path / "bad.h5"


def array(values: np.ndarray, *axes: str) -> Dataset:
    return Dataset(values, "1", "made for a test", axes)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"dense2/scale": array(np.full(10, np.nan, "f4"), "column")}, "layer dense2: scale has values that are"),
        ({"dense0/batch_norm/mean": array(np.full(70, np.inf, "f4"), "column")}, "layer dense0: mean has values"),
        ({"dense0/packed": array(np.full((70, 2), 2**63, "u8"), "column", "word")}, "dense0: padding bits"),
        ({"dense1/packed": array(np.zeros((33, 3), "u8"), "column", "word")}, r"uint64 of shape \(33, 2\)"),
        ({"dense1/packed": array(np.zeros((33, 2), "f8"), "column", "word")}, "got float64"),
        ({"dense1/packed": None}, "layer dense1: dataset 'packed' is missing"),
        ({"dense1/direction": None}, "layer dense1: dataset 'direction' is missing"),
        ({"dense0/batch_norm/epsilon": None}, "dataset 'batch_norm/epsilon' is missing"),
        ({"dense0/batch_norm/epsilon": array(np.zeros(2), "two")}, "must be one number"),
    ],
)
def test_wrong_arrays_are_refused(network: Network, tmp_path: Path, datasets: dict, message: str):
    path = broken(network, tmp_path, datasets=datasets)
    with pytest.raises(InputError, match=message) as caught:
        load_network(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"layer_kinds": ["dense", "convolution", "dense"]}, "layer dense1: unknown layer kind 'convolution'"),
        ({"layer_inputs": ["pixels", "analog", "binary"]}, "layer dense1: input must be"),
        ({"layer_in_features": [100, 70]}, "differ in length"),
        ({"layer_in_features": [100, 70, 2.5]}, "attribute 'layer_in_features' must be a list of int"),
        ({"layer_in_features": [100, 71, 33]}, "71 inputs, but layer dense0 has 70 columns"),
        ({"layers": None}, "attribute 'layers' must be a list of str, got None"),
        ({"layers": []}, "differ in length"),
        ({"classes": "ten"}, "attribute 'classes' must be int"),
        ({"classes": 9}, "10 logits for 9 classes"),
        ({"image_shape": [28, 28]}, "an image has the shape"),
    ],
)
def test_wrong_attributes_are_refused(network: Network, tmp_path: Path, attributes: dict, message: str):
    path = broken(network, tmp_path, attributes=attributes)
    with pytest.raises(InputError, match=message) as caught:
        load_network(path)
    assert str(caught.value).startswith(str(path))


def test_another_type_another_version_and_a_cut_file_are_refused(network: Network, tmp_path: Path):
    path = tmp_path / "other.h5"
    hdf5.write(path, Content(), filetype="cosim-surrogate", version=VERSION)
    with pytest.raises(InputError, match="cosim-surrogate"):
        load_network(path)
    hdf5.write(path, Content(), filetype=FILETYPE, version=(2, 0))
    with pytest.raises(InputError, match=r"1\.x, got 2\.0"):
        load_network(path)
    save_network(network, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut short|damaged"):
        load_network(path)


def test_a_folder_that_cannot_be_written_is_an_input_error(network: Network, tmp_path: Path):
    with pytest.raises(InputError):
        save_network(network, tmp_path / "missing" / "a.h5")


def test_names_and_paths(tmp_path: Path):
    assert network_path("a.h5") == Path("a.h5")
    assert network_path("folder/a") == Path("folder/a")
    assert network_path(tmp_path) == tmp_path
    with pytest.raises(InputError, match="no_such_network"):
        load_network("no_such_network")
