"""What all tests share: checked array annotations, one ngspice worker, and campaigns that take about a second."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

# Before anything imports cosim: beartype checks every annotated call, arrays' shapes and types among it. Left out are
# modules that numba compiles, which cannot be wrapped, and those whose own job is to refuse values of a wrong type
# with a message (the root's modules, the network's layers, read-outs and programs): their tests hand them such values.
CHECKED = (
    *("api", "chain", "cli", "circuit", "spice", "campaign", "surrogate", "report", "training"),
    *("network.packing", "network.reference", "network.sensing"),
)
# An int is welcome where a float is expected.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook([f"cosim.{name}" for name in CHECKED], CHECKER)

from cosim.campaign.collect import collect  # noqa: E402
from cosim.campaign.recipe import load_campaign  # noqa: E402
from cosim.circuit.deck import Deck  # noqa: E402
from cosim.spice.engine import Engine, Measured, open_engine  # noqa: E402
from cosim.surrogate.model import ComparatorModel, LineModel, Surrogate  # noqa: E402

TINY_RECIPE = """
title = "Tiny: eight rows, for tests"
seed = 3
cell = "xnor_8t"
process = "generic65"

[corner]
process = "tt"
vdd_v = 1.0
temp_c = 27.0

[column]
rows = 8
n_minus = [0, 1, 2, 4, 6, 8]
samples = 16
"""

TINY_COMPARATOR = """
[[comparator]]
amplifier = "strongarm"
sensing = "single_ended"
level_v = [0.7, 0.9]
samples = 16
tolerance_v = 0.1
"""


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The shared engine; one worker for all tests."""
    engine = open_engine("shared")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def run_deck(engine: Engine) -> Callable[[Deck], np.ndarray]:
    """Runs a deck; its probes at its read-out times, (probe, time) in volts."""

    def run(deck: Deck) -> np.ndarray:
        (result,) = engine.run([deck], timeout_s=60.0)
        assert isinstance(result, Measured), result
        return result.values

    return run


@pytest.fixture(scope="session")
def tiny_text() -> Callable[..., str]:
    """A recipe of eight rows and 16 samples a count; `tiny_text(comparator=True, seed="4")` changes values."""

    def text_of(*, comparator: bool = False, **changes: str) -> str:
        lines = (TINY_RECIPE + (TINY_COMPARATOR if comparator else "")).splitlines()
        for key, value in changes.items():
            assert any(line.startswith(f"{key} = ") for line in lines), f"no key {key}"
            lines = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in lines]
        return "\n".join(lines) + "\n"

    return text_of


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_text: Callable[..., str]) -> Callable[..., Path]:
    """Writes such a recipe into the test's folder; its file."""

    def write(*, name: str = "tiny", comparator: bool = False, **changes: str) -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(tiny_text(comparator=comparator, **changes), encoding="utf-8")
        return path

    return write


@pytest.fixture
def cosim(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own, as a user does, in the test's folder."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from cosim.cli import main; main()", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def hash_of() -> Callable[[Path], str]:
    """The content hash of a run's samples."""
    from cosim import hdf5

    def content_hash(run: Path) -> str:
        return str(hdf5.read(run / "samples.h5", filetype="cosim-samples", major=1).attributes["content_hash"])

    return content_hash


@pytest.fixture(scope="session")
def columns_of_64() -> Surrogate:
    """A surrogate of 64 rows that nobody fitted: plausible curves, quick to make."""
    n, level_v = np.arange(65.0), np.linspace(-0.9, 1.1, 9)
    none = np.zeros(65)
    line = LineModel(1 - 0.6 * n / (n + 32), 1.5e-3 * np.sqrt(n), none, none, none, none)
    comparator = ComparatorModel("ideal", level_v, 0 * level_v, np.full(9, 0.01), np.zeros(9), np.full(9, 1e-3), 64)
    return Surrogate(line, {"single_ended": comparator, "differential": comparator}, {}, {})


@pytest.fixture
def run_of_tiny(tiny_recipe: Callable[..., Path], tmp_path: Path) -> Path:
    """A run folder with the samples of the tiny recipe."""
    for _ in collect(load_campaign(tiny_recipe(comparator=True)), tmp_path / "run"):
        pass
    return tmp_path / "run"
