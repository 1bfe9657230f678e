"""From samples to accuracy where a surrogate has several operating points, or its column one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from synthetic_points import record, write_points

import cosim
from cosim import chain
from cosim.campaign.collect import collect
from cosim.campaign.recipe import load_campaign
from cosim.errors import InputError, MeasuredWorseError
from cosim.network.outcome import load_outcomes
from cosim.surrogate import line_fit
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.model import Surrogate
from cosim.surrogate.operating import Request

Cli = Callable[..., str]
NETWORK = "fashion_mnist_mlp"


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 3)
    monkeypatch.setattr(chain, "CALIBRATION_IMAGES", 100)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """What the command line prints; `main` adds only the exit."""
    from cosim.cli import app

    def run(*words: str | Path) -> str:
        app([str(word) for word in words], exit_on_error=False, result_action="return_value")
        return capsys.readouterr().out

    return run


# --- Several operating points ---


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six points at two supplies and three temperatures, of which the hot one at 1.1 V flips."""
    folder = tmp_path_factory.mktemp("points")
    records = [record("ss", v, t, l2_bias_mv=0.01, l2_rms_mv=0.03) for v, t in product((0.9, 1.1), (-40.0, 27.0, 85.0))]
    write_points(folder / "samples.h5", records, samples=32, flipped=[5])
    return folder


def copy(samples: Path, to: Path) -> Path:
    (to / "samples.h5").write_bytes((samples / "samples.h5").read_bytes())
    return to


def test_a_line_a_point_from_fit_and_validate(samples: Path, tmp_path: Path, cli: Cli) -> None:
    run = copy(samples, tmp_path)
    said = cli("fit", run)
    assert said == cli("validate", run / "surrogate.h5")
    lines = said.splitlines()
    # A line of held-out figures, and one of the fast column's errors.
    assert sum(line.startswith("ss ") and "masked" not in line for line in lines) == 5 + 6
    assert "ss 1.1 V 85 C" in said
    assert "masked: a cell flipped in 1 of 480 samples" in said
    assert "fast column against the full one" in said
    assert "between points of ss: mean" in said
    found = json.loads(cli("validate", run / "surrogate.h5", "--json"))
    assert len(found["points"]) == 6
    assert found["interpolation"]["ss"]["mean_mv"] > 0
    with pytest.raises(MeasuredWorseError, match=r"ss 0.9 V -40 C, word line 0.5 V, pulse 150 ps: bl mean_rms_counts"):
        cli("validate", run / "surrogate.h5", "--max-mean-counts", "1e-6")


def test_a_point_is_evaluated_in_a_folder_of_its_own(samples: Path, tmp_path: Path, cli: Cli) -> None:
    run = copy(samples, tmp_path)
    cli("fit", run)
    asked = ("--corner", "ss", "--vdd", "0.95", "--temp", "0", "--images", "20", "--mode", "nominal")
    said = cli("evaluate", NETWORK, "--surrogate", run / "surrogate.h5", *asked)
    own = run / "ss_0.95V_0C"
    (outcome,) = load_outcomes(own / "outcomes.json")
    assert outcome.accuracy.n == 20
    assert "nominal" in said
    assert "0.95 V" in str(cosim.load_surrogate(own / "surrogate.h5").provenance["operating_point"])
    for wrong, message in (
        (("--vdd", "0.95"), "no temp_c given"),
        (("--corner", "tt"), "process corner tt was not simulated"),
        (("--vdd", "1.2", "--temp", "0"), "vdd_v = 1.2, but ss was simulated at 0.9 to 1.1"),
        (("--vdd", "1.05", "--temp", "60"), "the neighbouring point ss 1.1 V 85 C.*masked"),
    ):
        with pytest.raises(InputError, match=message):
            cli("evaluate", NETWORK, "--surrogate", run / "surrogate.h5", *wrong)


def test_a_family_is_fitted_once(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copy(samples, tmp_path)
    path = chain.fitted(run)
    monkeypatch.setattr(chain, "fit", lambda *a, **k: pytest.fail("fitted again"))
    assert chain.fitted(run) == path
    assert chain.at_point(run / "x", path, Request(vdd_v=1.0, temp_c=0.0)) == run / "x" / "surrogate.h5"


def test_in_python(samples: Path, tmp_path: Path) -> None:
    family = cosim.fit(samples)
    assert isinstance(family, SurrogateFamily)
    family.save(tmp_path / "a.h5")
    surrogate = cosim.load_family(tmp_path / "a.h5").at("ss", vdd_v=1.0, temp_c=0.0)
    network = cosim.load_network(NETWORK)
    images = cosim.load_images("fashion_mnist", "train").images[:50]
    calibration = cosim.calibrate(network, surrogate, images)
    assert calibration.sensing == "differential"
    labels = np.zeros(20, np.int64)
    flash, sequential = (
        cosim.evaluate(network, surrogate, images[:20], labels, calibration=calibration, mlsa=each)
        for each in ("flash", "sequential")
    )
    assert flash.n == sequential.n == 20


# --- One line, simulated ---

RECIPE = """
title = "Charge sharing over 16 rows"
seed = 5
cell = "cap_8t1c"
process = "generic65"
[corner]
process = "tt"
vdd_v = 1.0
temp_c = 27.0
[column]
rows = 16
n_minus = [0, 1, 6, 10, 15, 16]
samples = 16
[[comparator]]
amplifier = "strongarm"
sensing = "single_ended"
level_v = [0.4, 0.7]
samples = 16
tolerance_v = 0.05
"""


@pytest.fixture(scope="module")
def charge_share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charge_share")
    (folder / "recipe.toml").write_text(RECIPE)
    for _ in collect(load_campaign(folder / "recipe.toml"), folder):
        pass
    return folder


def test_a_charge_share_column_is_fitted_and_read(charge_share: Path, cli: Cli) -> None:
    """README of cap_8t1c: 0.3421 V at the bottom and 19.94 mV a count; 12 fitted reads leave 0.1 mV."""
    cli("fit", charge_share)
    surrogate = cosim.load_surrogate(charge_share / "surrogate.h5")
    assert (surrogate.lines, surrogate.direction) == (1, 1)
    assert surrogate.line.mean_v[16] == pytest.approx(0.3421, abs=1e-3)
    np.testing.assert_allclose(-np.diff(surrogate.line.mean_v), 19.94e-3, rtol=0.02)
    assert surrogate.validation["bl_mean_rms_counts"] < 0.05
    path = ("--surrogate", charge_share / "surrogate.h5", "--images", "20")
    assert "single_ended" in cli("evaluate", NETWORK, *path, "--mode", "iid")
    assert "single_ended sequential" in cli("evaluate", NETWORK, *path, "--mode", "iid", "--mlsa", "sequential")
    assert "single_ended column_adc" in cli("evaluate", NETWORK, *path, "--mode", "iid", "--adc", "column_adc")
    outcomes = load_outcomes(charge_share / "outcomes.json")
    assert [each.amplifier for each in outcomes] == ["", "sequential", "column_adc"]
    assert [each.bits for each in outcomes] == [3, 3, 4]
    assert len({each.key for each in outcomes}) == 3
    for wrong, message in (
        (("--sensing", "differential"), "differential sensing of a column of one line"),
        (("--adc", "column_adc", "--bits", "3"), "takes neither --bits nor --mlsa"),
        (("--adc", "column_adc", "--mlsa", "sequential"), "takes neither --bits nor --mlsa"),
        (("--adc", "nothing"), "nothing"),
        (("--vdd", "0.9"), "one operating point"),
    ):
        with pytest.raises(InputError, match=message):
            cli("evaluate", NETWORK, *path, *wrong)
    assert "column_adc" in Path(cli("report", charge_share).split(":")[0].strip()).read_text(encoding="utf-8")


def test_a_converter_needs_a_column_of_one_line_in_python_too(columns_of_64: Surrogate) -> None:
    network, images = cosim.load_network(NETWORK), cosim.load_images("fashion_mnist", "train").images[:20]
    with pytest.raises(InputError, match="this one has two"):
        cosim.calibrate(network, columns_of_64, images, adc="column_adc")
