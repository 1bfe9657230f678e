"""Surrogates and calibrations on disk: they come back as they went, and nothing wrong is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from synthetic_columns import column_reads, comparators, true_surrogate, truth, write_samples

from cosim import hdf5
from cosim.errors import InputError
from cosim.surrogate import fit as fitting
from cosim.surrogate import line_fit
from cosim.surrogate.calibration import Calibration, calibrate
from cosim.surrogate.files import (
    CALIBRATION,
    SURROGATE,
    load_calibration,
    load_surrogate,
    save_calibration,
    save_surrogate,
)
from cosim.surrogate.model import Surrogate


@pytest.fixture
def surrogate() -> Surrogate:
    return replace(
        true_surrogate(), validation={"bl_ks_p": 0.25}, provenance={"rows": 64, "seed": 1, "cell": "xnor_8t"}
    )


@pytest.fixture
def path(surrogate: Surrogate, tmp_path: Path) -> Path:
    save_surrogate(surrogate, tmp_path / "a.h5")
    return tmp_path / "a.h5"


def same(first: object, second: object, names: tuple[str, ...]) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_surrogate_comes_back_as_it_went(surrogate: Surrogate, path: Path) -> None:
    back = load_surrogate(path)
    same(surrogate.line, back.line, tuple(surrogate.line.__slots__))
    assert set(back.comparators) == {"single_ended", "differential"}
    for sensing, model in surrogate.comparators.items():
        same(model, back.comparators[sensing], tuple(model.__slots__))
    assert back.validation == surrogate.validation
    assert {name: back.provenance[name] for name in surrogate.provenance} == surrogate.provenance
    # Written again it is the same file but for its time.
    save_surrogate(back, path.with_name("b.h5"))
    assert _hash(path.with_name("b.h5")) == _hash(path)


def _hash(path: Path) -> object:
    return hdf5.read(path, filetype=hdf5.peek(path)[0], major=1).attributes["content_hash"]


def test_fitting_twice_gives_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 10)
    samples = write_samples(tmp_path / "samples.h5", column_reads(truth(), 32, 1), 64)
    for name in ("a.h5", "b.h5"):
        save_surrogate(fitting.fit(samples), tmp_path / name)
    assert _hash(tmp_path / "a.h5") == _hash(tmp_path / "b.h5")


def test_xarray_opens_it(path: Path) -> None:
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        assert data["line_mean_v"].dims == ("count",)
        assert data["line_mean_v"].attrs["units"] == "V"
        assert "rows pulling" in data["line_mean_v"].attrs["long_name"]
        assert float(data["line_mean_v"].sel(count=64)) == truth().mean_v[64]
        assert data["single_ended_offset_sigma_v"].dims == ("single_ended_level_v",)
        both = data["difference_mean_v"].values
        np.testing.assert_allclose(both, -both[::-1], atol=1e-12)


def rewritten(
    path: Path, change: Callable[[dict[str, hdf5.Dataset], dict[str, hdf5.Attribute]], None], **about
) -> Path:
    """The file with other content and a valid hash: what a program that knows the format could write."""
    filetype, version = hdf5.peek(path)
    content = hdf5.read(path, filetype=filetype, major=version[0])
    datasets, attributes = dict(content.datasets), dict(content.attributes)
    change(datasets, attributes)
    hdf5.write(
        path,
        hdf5.Content(attributes, datasets),
        filetype=about.get("filetype", filetype),
        version=about.get("version", version),
    )
    return path


def values(name: str, change: Callable[[np.ndarray], np.ndarray]):
    def apply(datasets: dict[str, hdf5.Dataset], _: object) -> None:
        datasets[name] = replace(datasets[name], values=change(datasets[name].values.copy()))

    return apply


def with_nan(array: np.ndarray) -> np.ndarray:
    array[3] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (values("line_mean_v", with_nan), "line_mean_v has a NaN"),
        (values("line_skew", with_nan), "line_skew has a NaN"),
        (values("line_mean_v", lambda a: a[::-1]), "line_mean_v rises, expected it to fall"),
        (values("line_sigma_v", lambda a: -a), "line_sigma_v is negative"),
        (values("single_ended_offset_sigma_v", lambda a: 0 * a), "a sigma is not positive"),
        (values("single_ended_offset_mean_v", with_nan), "single_ended_offset_sigma_v has a NaN"),
        (values("single_ended_level_v", lambda a: a[::-1]), "the levels of single_ended do not rise"),
        (values("single_ended_level_v", with_nan), "single_ended_level_v has a NaN"),
        (lambda data, about: data.pop("line_sigma_v"), "an incomplete surrogate: .*line_sigma_v"),
        (lambda data, about: about.pop("comparators"), "an incomplete surrogate: .*comparators"),
        (lambda data, about: about.update(comparators="[1, 2]"), "an incomplete surrogate"),
        (lambda data, about: about.update(comparators="{"), "an incomplete surrogate"),
        (
            lambda data, about: about.update(comparators="[" * 20_000 + "]" * 20_000),
            "an incomplete surrogate: .*recursion",
        ),
        (values("single_ended_offset_skew", with_nan), "single_ended_offset_skew has a NaN"),
        (lambda data, about: data.pop("single_ended_offset_skew"), "an incomplete surrogate: .*offset_skew"),
    ],
)
def test_values_that_no_surrogate_has_are_refused(path: Path, change: Callable[..., None], said: str) -> None:
    refused(lambda: load_surrogate(rewritten(path, change)), path, said)


def refused(load: Callable[[], object], path: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_of_version_1_0_has_offsets_without_skew(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save_surrogate(replace(true_surrogate(), comparators=comparators(skew=0.5)), path)
    assert (load_surrogate(path).comparators["differential"].offset_skew == 0.5).all()

    def drop(datasets: dict[str, hdf5.Dataset], _: object) -> None:
        for sensing in ("single_ended", "differential"):
            del datasets[f"{sensing}_offset_skew"]

    old = load_surrogate(rewritten(path, drop, version=(1, 0)))
    for sensing, model in comparators().items():
        np.testing.assert_array_equal(old.comparators[sensing].offset_skew, np.zeros(model.level_v.size))
        np.testing.assert_array_equal(old.comparators[sensing].offset_sigma_v, model.offset_sigma_v)


def test_arrays_of_the_wrong_length_are_refused(path: Path) -> None:
    def shorten(datasets: dict[str, hdf5.Dataset], _: object) -> None:
        cut = datasets["line_skew"]
        datasets["line_skew"] = hdf5.Dataset(cut.values[:-1], cut.units, cut.long_name, ("shorter",))

    # The second is what the annotations say, where beartype checks them.
    said = r"line_skew has a NaN or the wrong shape \(64,\)|an incomplete surrogate: Type-check"
    refused(lambda: load_surrogate(rewritten(path, shorten)), path, said)


def test_another_type_or_version_is_refused(path: Path) -> None:
    def nothing(*_: object) -> None:
        pass

    refused(lambda: load_surrogate(rewritten(path, nothing, version=(2, 0))), path, r"expected version 1\.x, got 2\.0")
    save_surrogate(true_surrogate(), path)
    refused(
        lambda: load_surrogate(rewritten(path, nothing, filetype="cosim-network")),
        path,
        "expected a file of type 'cosim-surrogate', got 'cosim-network'",
    )
    save_surrogate(true_surrogate(), path)
    assert load_surrogate(rewritten(path, nothing, version=(1, 7))).rows == 64


@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.99])
def test_a_file_cut_short_is_refused(path: Path, kept: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw)) if 0 < kept < 1 else int(kept)])
    refused(lambda: load_surrogate(path), path, "cut short|empty file|something else")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"there is no 'nowhere\.h5'"):
        load_surrogate("nowhere")


# --- Calibrations ---


@pytest.fixture
def calibration() -> Calibration:
    few = np.zeros(49, np.int64)
    few[[3, 8, 9]] = 5
    many = np.bincount(np.random.default_rng(0).binomial(64, 0.5, 4000), minlength=65)
    groups = {("dense2", 64): many, ("dense2", 48): few, ("dense3", 64, 1, 0): many[::-1].copy()}
    return calibrate(true_surrogate(), groups, sensing="differential", bits=3, provenance={"network": "x", "n": 3})


@pytest.fixture
def calibration_path(calibration: Calibration, tmp_path: Path) -> Path:
    save_calibration(calibration, tmp_path / "c.h5")
    return tmp_path / "c.h5"


def test_a_calibration_comes_back_as_it_went(calibration: Calibration, calibration_path: Path) -> None:
    back = load_calibration(calibration_path)
    assert (back.sensing, back.bits) == ("differential", 3)
    assert back.provenance == calibration.provenance
    assert set(back.levels) == set(calibration.levels)
    for group, levels in calibration.levels.items():
        same(levels, back.levels[group], tuple(levels.__slots__))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data, about: about.update(sensing="triple"), "sensing is 'triple'"),
        (lambda data, about: about.update(bits=1), "8 codes of dense2 do not fit"),
        (lambda data, about: about.update(groups="[[1]]"), "an incomplete calibration"),
        (
            lambda data, about: about.update(groups="[" * 20_000 + "]" * 20_000),
            "an incomplete calibration: .*recursion",
        ),
        (lambda data, about: about.update(groups='[["dense2", 60], ["dense2", 48]]'), "has 65 counts, expected 61"),
        (lambda data, about: about.update(groups='[["dense2", 64, 1]]'), "an incomplete calibration"),
        (lambda data, about: about.update(groups='[["dense2", 64, 1, 0, 0]]'), "an incomplete calibration"),
        (lambda data, about: data.pop("histogram"), "an incomplete calibration: .*histogram"),
        (values("reference_v", lambda a: -a), "do not rise"),
        (values("centroid_mac", lambda a: -a), "do not rise"),
        (values("centroid_mac", lambda a: np.where(a < 0, np.nan, a)), "codes of dense2 do not fit"),
    ],
)
def test_a_wrong_calibration_is_refused(calibration_path: Path, change: Callable[..., None], said: str) -> None:
    refused(lambda: load_calibration(rewritten(calibration_path, change)), calibration_path, said)


def test_the_types_are_told_apart(path: Path, calibration_path: Path) -> None:
    refused(lambda: load_surrogate(calibration_path), calibration_path, f"got '{CALIBRATION[0]}'")
    refused(lambda: load_calibration(path), path, f"got '{SURROGATE[0]}'")


def test_a_surrogate_without_comparators_may_be_saved(tmp_path: Path) -> None:
    save_surrogate(replace(true_surrogate(), comparators={}), tmp_path / "a.h5")
    assert load_surrogate(tmp_path / "a.h5").comparators == {}
