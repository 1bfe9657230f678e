"""Run folders made of formulas: no ngspice, no network, a second at most."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosim import hdf5
from cosim.network.outcome import Outcome, save_outcomes
from cosim.stats import proportion
from cosim.surrogate.calibration import calibrate
from cosim.surrogate.files import save_calibration, save_surrogate
from cosim.surrogate.model import ComparatorModel, LineModel, Surrogate

ROWS = 16
EVIL = "<script>alert(1)</script>"
NETLIST = f".subckt cell bl blb\n* {EVIL} & $x_1$\n.ends\n"
ACCURACIES = {("ideal", ""): 8838, ("nominal", "single_ended"): 8791, ("iid", "single_ended"): 8622,
              ("nominal", "differential"): 8815, ("iid", "differential"): 8749}  # fmt: skip


def make_run(folder: Path, network: str = "toy_mlp") -> Path:
    """A complete run of a 16-row column whose line falls linearly, sigma growing with the root of the count."""
    folder.mkdir(parents=True, exist_ok=True)
    samples_hash = _save_samples(folder / "samples.h5")
    model = make_surrogate({"samples_sha256": samples_hash})
    save_surrogate(model, folder / "surrogate.h5")
    header = hdf5.read(folder / "surrogate.h5", filetype="cosim-surrogate", major=1).attributes
    n_minus = np.arange(ROWS + 1)
    bell = np.round(1e5 * np.exp(-(((n_minus - 8) / 2.5) ** 2) / 2)).astype(np.int64)
    about = {"network": network, "surrogate_sha256": str(header["content_hash"]), "network_sha256": "ab" * 32}
    for sensing in ("single_ended", "differential"):
        histograms = {("dense2", ROWS): bell, ("dense3", ROWS): bell // 10}
        levels = calibrate(model, histograms, sensing=sensing, bits=3, provenance=about)
        save_calibration(levels, folder / f"calibration-{network}-{sensing}-3bit.h5")
    save_outcomes(outcomes(network, about["surrogate_sha256"]), folder / "outcomes.json")
    return folder


def make_surrogate(about: dict[str, str | int | float]) -> Surrogate:
    """Mean from 1 V down 40 mV a count, sigma 5 mV times the root of the count."""
    count = np.arange(ROWS + 1.0)
    sigma_v = 5e-3 * np.sqrt(count)
    line = LineModel(1 - 0.04 * count, sigma_v, -0.1 * count / ROWS, 1e-4 + 0 * count, sigma_v / 20, 0.1 + 0 * count)
    comparators = {}
    for sensing, level_v in (("single_ended", np.linspace(0.3, 1.0, 5)), ("differential", np.linspace(-0.7, 0.7, 5))):
        flat = np.full(5, 8e-3)
        comparators[sensing] = ComparatorModel(f"amp_{sensing}", level_v, 0.1 * flat, flat, 0 * flat, flat / 11, 64)
    checks = ("reads", "mean_rms_mv", "mean_expected_mv", "mean_rms_counts", "sigma_rms_mv", "sigma_expected_mv",
              "sigma_rms_counts", "ks", "ks_p")  # fmt: skip
    validation = {f"{view}_{name}": 0.25 for view in ("bl", "blb", "difference") for name in checks}
    provenance: dict[str, str | int | float] = {
        "cell": f"cell {EVIL}", "process": "generic65", "recipe": f'title = "{EVIL}"\n', "recipe_sha256": "cd" * 32,
        "netlist_cell": NETLIST, "netlist_cell_sha256": "ef" * 32, "seed": 7, "rows": ROWS,
        "engine": "ngspice (shared)", "failures": json.dumps([["strongarm at 0.3 V", 4, f"out_of_range: {EVIL}"]]),
    }  # fmt: skip
    return Surrogate(line, comparators, validation | {"line_correlation": 0.0123}, provenance | about)


def outcomes(network: str, surrogate_sha256: str) -> list[Outcome]:
    """Each mode, on 10,000 images."""
    return [
        Outcome(
            network, "toy", mode, sensing, 3 if sensing else 0, 0, proportion(right, 10_000), 10**9, 1.5,
            "ab" * 32, surrogate_sha256 if sensing else "", mode * 9,
        )
        for (mode, sensing), right in ACCURACIES.items()
    ]  # fmt: skip


def _save_samples(path: Path) -> str:
    """64 column reads at each of nine counts; one comparator sample failed."""
    generator = np.random.default_rng(5)
    n_minus = np.repeat(np.arange(0, ROWS + 1, 2), 64)
    n_plus = ROWS - n_minus
    lines = [1 - 0.04 * n + 5e-3 * np.sqrt(n) * generator.standard_normal(n.size) for n in (n_minus, n_plus)]
    table = {
        "column_n_minus": n_minus, "column_n_plus": n_plus, "column_sample": np.tile(np.arange(64), 9),
        "column_status": np.zeros(n_minus.size, np.uint8), "column_bl_v": lines[0], "column_blb_v": lines[1],
        "comparator_status": np.array([0, 0, 2], np.uint8),
    }  # fmt: skip
    datasets = {
        name: hdf5.Dataset(values, "1", name, (f"{name.split('_')[0]}_read",)) for name, values in table.items()
    }
    hdf5.write(path, hdf5.Content({"rows": ROWS}, datasets), filetype="cosim-samples", version=(1, 0))
    return str(hdf5.read(path, filetype="cosim-samples", major=1).attributes["content_hash"])


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run; do not write into it."""
    return make_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of the complete run to change."""
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


@pytest.fixture
def named_run(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a run whose network has a name of the test's choice."""
    return lambda network: make_run(tmp_path / "named", network)
