"""Built-in folders are found in a wheel and in a checkout; wrong names list the right ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosim import resources
from cosim.errors import InputError
from cosim.resources import data_folder, find


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package in tmp_path/site/cosim, with tmp_path/site beside it."""
    package = tmp_path / "site" / "cosim"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", package)
    return package


def test_checkout_has_all_three() -> None:
    assert [data_folder(kind).name for kind in ("netlists", "characterization", "models")] == [
        "netlists",
        "characterization",
        "models",
    ]
    assert find("netlists", "bitcells", "xnor_8t", "cell.toml").is_file()


def test_a_wheel_comes_before_a_folder_beside_it(package: Path) -> None:
    (package.parent / "models").mkdir()
    assert data_folder("models") == package.parent / "models"
    (package / "_data" / "models").mkdir(parents=True)
    assert data_folder("models") == package / "_data" / "models"


def test_a_broken_installation_is_told(package: Path) -> None:
    with pytest.raises(InputError, match="'models' is missing"):
        data_folder("models")


def test_wrong_names_get_a_suggestion(package: Path) -> None:
    folder = package / "_data" / "models" / "networks"
    folder.mkdir(parents=True)
    for name in ("mnist_mlp.h5", "fashion_mlp.h5", ".hidden"):
        (folder / name).touch()
    assert find("models", "networks", "mnist_mlp.h5") == folder / "mnist_mlp.h5"
    with pytest.raises(InputError) as caught:
        find("models", "networks", "mnist_mpl.h5")
    expected = (
        "networks: there is no 'mnist_mpl.h5' (did you mean 'mnist_mlp.h5'? there is: fashion_mlp.h5, mnist_mlp.h5)"
    )
    assert str(caught.value) == expected
    with pytest.raises(InputError, match="there is no 'x'"):
        find("models", "networks", "mnist_mlp.h5", "x")


@pytest.mark.parametrize("part", ["..", ".", "", "a/b", "../models", "/etc", "a\\b", "C:", "a\0b"])
def test_names_are_no_paths(part: str) -> None:
    with pytest.raises(InputError, match="expected a plain name"):
        find("netlists", part)
