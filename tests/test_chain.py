"""A run folder: nothing is done twice, and nothing old is taken for new."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosim import chain
from cosim.chain import Chosen
from cosim.datasets import Images, Name, Split, load_images
from cosim.errors import InputError
from cosim.network.files import load_network
from cosim.network.outcome import load_outcomes
from cosim.network.sensing import calibrate_network, readouts_of
from cosim.resources import find
from cosim.surrogate.family_files import load_at
from cosim.surrogate.files import load_calibration, load_surrogate, save_calibration, save_surrogate
from cosim.surrogate.model import Sensing, Surrogate
from cosim.surrogate.operating import Request

NETWORK = "fashion_mnist_mlp"


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "CALIBRATION_IMAGES", 100)


@pytest.fixture
def surrogate(columns_of_64: Surrogate, tmp_path: Path) -> Path:
    save_surrogate(columns_of_64, tmp_path / "surrogate.h5")
    return tmp_path / "surrogate.h5"


def chosen(**changes) -> Chosen:
    return replace(Chosen(NETWORK, "iid", "differential", 3, 0, 50), **changes)


def test_an_outcome_is_kept_and_found_again(surrogate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = surrogate.parent
    first = chain.evaluated(run, chosen(), surrogate)
    assert first.accuracy.n == 50
    assert load_outcomes(run / "outcomes.json") == [first]
    monkeypatch.setattr(chain, "evaluate", lambda *a, **k: pytest.fail("evaluated again"))
    assert chain.evaluated(run, chosen(), surrogate) == first


def test_another_choice_is_another_outcome(surrogate: Path) -> None:
    run = surrogate.parent
    outcomes = [chain.evaluated(run, chosen(), surrogate)]
    for changes in (
        {"seed": 1},
        {"bits": 2},
        {"sensing": "single_ended"},
        {"mode": "nominal"},
        {"images": 60},
        {"mode": "ideal"},
    ):
        outcomes.append(chain.evaluated(run, chosen(**changes), surrogate))
    assert len({each.key for each in outcomes}) == 7
    assert load_outcomes(run / "outcomes.json") == outcomes


def test_another_surrogate_replaces_calibration_and_outcome(surrogate: Path, columns_of_64: Surrogate) -> None:
    run = surrogate.parent
    first = chain.evaluated(run, chosen(), surrogate)
    (kept,) = run.glob("calibration-*.h5")
    before = kept.read_bytes()
    line = replace(columns_of_64.line, sigma_v=8 * columns_of_64.line.sigma_v)
    save_surrogate(replace(columns_of_64, line=line), surrogate)
    second = chain.evaluated(run, chosen(), surrogate)
    assert second.key != first.key
    assert load_outcomes(run / "outcomes.json") == [second], "the old one is of another input"
    assert kept.read_bytes() != before


def test_a_damaged_calibration_is_made_again(surrogate: Path) -> None:
    run = surrogate.parent
    first = chain.calibrated(run, NETWORK, surrogate, "differential", 3)
    (path,) = run.glob("calibration-*.h5")
    path.write_bytes(path.read_bytes()[:-200])
    second = chain.calibrated(run, NETWORK, surrogate, "differential", 3)
    assert {group: levels.reference_v.tolist() for group, levels in first.levels.items()} == {
        group: levels.reference_v.tolist() for group, levels in second.levels.items()
    }


def test_a_calibration_is_of_training_images(surrogate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[str] = []

    def load(name: Name, split: Split) -> Images:
        splits.append(split)
        return load_images(name, split)

    monkeypatch.setattr(chain, "load_images", load)
    kept = chain.calibrated(surrogate.parent, NETWORK, surrogate, "differential", 3)
    assert splits == ["train"]
    assert kept.provenance["split"] == "train"
    assert kept.provenance["dataset"] == "fashion_mnist"


def test_damaged_outcomes_are_refused_with_their_file(surrogate: Path) -> None:
    run = surrogate.parent
    for text in ("{", json.dumps({"filetype": "other"}), json.dumps([1])):
        (run / "outcomes.json").write_text(text)
        with pytest.raises(InputError, match=r"outcomes\.json: no outcomes file of version 1.*delete it"):
            chain.evaluated(run, chosen(), surrogate)


def test_the_fit_is_kept_until_the_samples_change(run_of_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = chain.fitted(run_of_tiny)
    before = path.read_bytes()
    assert chain.fitted(run_of_tiny) == path
    assert path.read_bytes() == before
    path.write_bytes(before[:-50])
    chain.fitted(run_of_tiny)
    assert load_surrogate(path).rows == 8
    monkeypatch.setattr(chain, "FORMAT", chain.FORMAT + 1)
    monkeypatch.setattr(chain, "fit", lambda *a, **k: pytest.fail("fitted again, as it must"))
    with pytest.raises(pytest.fail.Exception):
        chain.fitted(run_of_tiny)


def test_a_mode_with_a_circuit_needs_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mode nominal needs a surrogate"):
        chain.evaluated(tmp_path, chosen(mode="nominal"), None)


def test_a_network_is_checked_before_hours_of_simulation() -> None:
    chain.check_network(NETWORK)
    with pytest.raises(InputError, match=r"there is no 'fashion_mlp\.h5'"):
        chain.check_network("fashion_mlp")


def test_levels_that_cannot_be_read_are_not_kept(columns_of_64: Surrogate, tmp_path: Path) -> None:
    """A comparator measured over too few levels: the next report must not meet a calibration that nothing used."""
    narrow = replace(columns_of_64.comparators["differential"], level_v=np.linspace(0.9, 1.1, 9))
    path, run = tmp_path / "narrow.h5", tmp_path / "run"
    save_surrogate(replace(columns_of_64, comparators={"differential": narrow}), path)
    with pytest.raises(InputError, match="was measured from"):
        chain.evaluated(run, chosen(), path)
    assert not run.exists()


def test_more_images_than_there_are_make_nothing(surrogate: Path) -> None:
    for count in (0, -1, 10_001):
        with pytest.raises(InputError, match=f"{count} test images asked for, fashion_mnist has 10000"):
            chain.evaluated(surrogate.parent / "run", chosen(images=count), surrogate)
    assert not (surrogate.parent / "run").exists()


def test_outcomes_nested_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "outcomes.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"outcomes\.json: no outcomes file of version 1: nested too deep"):
        load_outcomes(tmp_path / "outcomes.json")


@pytest.mark.parametrize(
    "name", ["mnist_mlp", "fashion_mnist_cnn", "cifar10_vgg", "cifar10_vgg_hbnn", "cifar10_resnet18"]
)
def test_shipped_networks_name_a_data_set_that_loads(name: str) -> None:
    network = load_network(find("models", "networks", f"{name}.h5"))
    assert name.startswith(chain.dataset_of(network))


def test_a_network_of_another_data_set_is_refused() -> None:
    network = load_network(find("models", "networks", "mnist_mlp.h5"))
    other = replace(network, provenance=dict(network.provenance) | {"dataset": "svhn"})
    with pytest.raises(InputError, match="'svhn', expected one of mnist, fashion_mnist, cifar10"):
        chain.dataset_of(other)


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_the_6t_family_reads_the_hbnn_network(sensing: Sensing, tmp_path: Path) -> None:
    """Rows that are off leave the lines high: references and common modes reach up to the supply."""
    network = load_network(find("models", "networks", "cifar10_vgg_hbnn.h5"))
    surrogate = load_at("hbnn_6t", Request("tt", 1.0, 27.0))
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    calibration = calibrate_network(network, surrogate, images, sensing=sensing)
    save_calibration(calibration, tmp_path / "levels.h5")
    assert load_calibration(tmp_path / "levels.h5").levels.keys() == calibration.levels.keys()
    readouts = readouts_of(surrogate, calibration)
    assert set(readouts) == {layer.name for layer in network.binary_layers}


@pytest.mark.parametrize(
    "place", [("tt", 1.0, 27.0), ("tt", 0.95, 27.0), ("tt", 1.05, 60.0), ("ss", 1.0, 27.0), ("tt", 0.9, 27.0)]
)
def test_the_6t_family_is_whole_at_and_between_its_points(place: tuple[str, float, float]) -> None:
    """What no line reaches at the lowest supply is missing nowhere: references up to every supply are known."""
    surrogate = load_at("hbnn_6t", Request(*place))
    count = np.arange(17.0)
    modes_v = surrogate.common_mode_v(count, 16 - count)
    references_v: dict[Sensing, np.ndarray] = {
        "single_ended": np.linspace(0.4, place[1], 9),
        "differential": np.linspace(-0.5, 0.5, 9),
    }
    for sensing, level_v in references_v.items():
        model = surrogate.comparators[sensing]
        assert model.good.all()
        found = model.at(level_v, modes_v) if model.gridded else model.at(level_v)
        assert (found.sigma_v > 5e-3).all()
        assert (found.sigma_v < 0.1).all()
