"""The Python interface, from a cell's name to an accuracy, as the README writes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import cosim
from cosim.campaign.collect import Progress
from cosim.errors import InputError, UnsafeError
from cosim.resources import data_folder
from cosim.surrogate.calibration import Calibration
from cosim.surrogate.model import Surrogate


def test_everything_that_is_promised_is_there() -> None:
    for name in cosim.__all__:
        assert callable(getattr(cosim, name)), name
    with pytest.raises(AttributeError, match="no attribute 'simulate'"):
        cosim.simulate  # noqa: B018  # pyright: ignore


# --- From a netlist to a surrogate ---


def test_characterize_and_fit(tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    told: list[Progress] = []
    cell = cosim.load_cell("xnor_8t")
    store = cosim.characterize(cell, tiny_recipe(comparator=True), out=tmp_path / "run", progress=told.append)
    assert told[0].fresh == 0
    assert (told[-1].done, told[-1].total) == (128, 128)
    # Again: by a name, from a string, and nothing is simulated.
    again: list[Progress] = []
    cosim.characterize("xnor_8t", tiny_recipe(comparator=True), out=str(tmp_path / "run"), progress=again.append)
    assert [each.fresh for each in again] == [0]
    by_store, by_folder = cosim.fit(store), cosim.fit(tmp_path / "run")
    np.testing.assert_array_equal(by_store.line.mean_v, by_folder.line.mean_v)
    assert by_store.rows == 8
    assert (np.diff(by_store.line.mean_v) <= 0).all()
    assert by_store.provenance["cell"] == "xnor_8t"
    cosim.save_surrogate(by_store, tmp_path / "a.h5")
    np.testing.assert_array_equal(cosim.load_surrogate(tmp_path / "a.h5").line.mean_v, by_store.line.mean_v)


def test_a_cell_folder_takes_the_place_of_the_recipe_s(tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    """A new cell is one folder and one call; a weaker pass transistor leaves the line higher."""
    folder = shutil.copytree(data_folder("netlists") / "bitcells" / "xnor_8t", tmp_path / "weaker")
    contract = folder / "cell.toml"
    text = contract.read_text()
    assert "w_pass = 120e-9" in text
    contract.write_text(text.replace("w_pass = 120e-9", "w_pass = 100e-9"))
    recipe, out, told = tiny_recipe(), tmp_path / "run", list[Progress]()
    weaker = cosim.fit(cosim.characterize(folder, recipe, out=out))
    # In the same folder, nothing of the other cell is taken for its own.
    usual = cosim.fit(cosim.characterize("xnor_8t", recipe, out=out, progress=told.append))
    assert told[-1].fresh == 96
    assert (weaker.provenance["cell"], usual.provenance["cell"]) == ("weaker", "xnor_8t")
    assert weaker.line.mean_v[8] > usual.line.mean_v[8] + 0.005


def test_a_hostile_cell_is_refused_before_anything_is_made(tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(data_folder("netlists") / "bitcells" / "xnor_8t", tmp_path / "hostile")
    (folder / "cell.cir").write_text((folder / "cell.cir").read_text() + "\n.control\nshell touch x\n.endc\n")
    with pytest.raises(UnsafeError):
        cosim.characterize(folder, tiny_recipe(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- From a surrogate to an accuracy ---


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.arange(40, dtype=np.uint8) % 10


@pytest.fixture(scope="module")
def surrogate(columns_of_64: Surrogate) -> Surrogate:
    return columns_of_64


@pytest.fixture(scope="module")
def calibration(surrogate: Surrogate, images: np.ndarray) -> Calibration:
    return cosim.calibrate(cosim.load_network("fashion_mnist_mlp"), surrogate, images, sensing="differential", bits=3)


def test_ideal_needs_no_circuit(images: np.ndarray, labels: np.ndarray) -> None:
    found = cosim.evaluate(cosim.load_network("fashion_mnist_mlp"), None, images, labels, mode="ideal")
    assert found.accuracy.n == 40
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high


@pytest.mark.parametrize("mode", ["nominal", "iid"])
def test_a_circuit_is_read_through_its_levels(
    mode: str, surrogate: Surrogate, calibration: Calibration, images: np.ndarray, labels: np.ndarray
) -> None:
    network = cosim.load_network("fashion_mnist_mlp")
    assert all(levels.centroid_mac.size == 8 for levels in calibration.levels.values())
    run = [
        cosim.evaluate(network, surrogate, images, labels, mode=mode, calibration=calibration, seed=seed)  # pyright: ignore
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(run[0].predictions, run[1].predictions)
    assert run[0].accuracy.n == 40


def test_what_is_missing_is_said(surrogate: Surrogate, images: np.ndarray, labels: np.ndarray) -> None:
    network = cosim.load_network("fashion_mnist_mlp")
    with pytest.raises(InputError, match=r"mode iid needs a surrogate .*cosim\.calibrate"):
        cosim.evaluate(network, None, images, labels)
    with pytest.raises(InputError, match="mode nominal needs a calibration"):
        cosim.evaluate(network, surrogate, images, labels, mode="nominal")
    with pytest.raises(InputError, match="bits = 9, expected 1 to 6"):
        cosim.calibrate(network, surrogate, images, bits=9)


def test_a_calibration_of_another_network_is_refused(
    surrogate: Surrogate, calibration: Calibration, images: np.ndarray, labels: np.ndarray
) -> None:
    network = cosim.load_network("fashion_mnist_mlp")
    with pytest.raises(InputError, match="a calibration of network fashion_mnist_mlp, expected one of mnist_mlp"):
        cosim.evaluate(cosim.load_network("mnist_mlp"), surrogate, images, labels, calibration=calibration)
    fewer = dict(list(calibration.levels.items())[:1])
    for about in ({"network": network.name}, {}):
        cut = replace(calibration, levels=fewer, provenance=about)
        with pytest.raises(InputError, match=r"a calibration of layers \w+, expected dense2, dense3"):
            cosim.evaluate(network, surrogate, images, labels, calibration=cut)


def test_names_that_are_no_names_are_refused() -> None:
    """In a process of its own: here beartype would be first."""
    code = """
import numpy as np, cosim
network, surrogate = cosim.load_network("fashion_mnist_mlp"), cosim.load_surrogate("xnor_8t")
images, labels = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8)
for call in (
    lambda: cosim.calibrate(network, surrogate, images, sensing="diff"),
    lambda: cosim.evaluate(network, surrogate, images, labels, mode="die"),
    lambda: cosim.evaluate(network, surrogate, images, labels, mode="perfect"),
):
    try:
        call()
    except cosim.errors.InputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "sensing must be one of single_ended, differential, got 'diff'",
        "mode 'die' is not there yet, expected one of ideal, nominal, iid",
        "mode 'perfect' is none, expected one of ideal, nominal, iid",
    ]


def test_a_surrogate_is_saved_by_itself_or_by_name(
    surrogate: Surrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    surrogate.save("a.h5")
    cosim.save_surrogate(surrogate, "b.h5")
    for name in ("a.h5", "b.h5"):
        np.testing.assert_array_equal(cosim.load_surrogate(name).line.mean_v, surrogate.line.mean_v)


def test_the_version() -> None:
    assert cosim.__version__ == version("cosim")
