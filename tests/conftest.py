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

# Before anything imports cosim: beartype checks every annotated call, arrays' shapes and types among it. Not in the
# modules at the root (hdf5, config, ...): refusing values of a wrong type with a message of their own is their job,
# and their tests hand them such values.
CHECKED = ("circuit", "spice", "campaign", "surrogate", "network", "report", "training", "cli", "api", "chain")
jaxtyping.install_import_hook([f"cosim.{name}" for name in CHECKED], "beartype.beartype")

from cosim.circuit.deck import Deck  # noqa: E402
from cosim.spice.engine import Engine, Measured, open_engine  # noqa: E402

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


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe of eight rows and 16 samples a count: `tiny_recipe(comparator=True, seed="4")` is its file."""

    def write(*, comparator: bool = False, name: str = "tiny", **changes: str) -> Path:
        text = TINY_RECIPE + (TINY_COMPARATOR if comparator else "")
        for key, value in changes.items():
            lines = [f"{key} = {value}" if line.split(" =")[0] == key else line for line in text.splitlines()]
            assert lines != text.splitlines(), f"{key} changes nothing"
            text = "\n".join(lines) + "\n"
        path = tmp_path / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
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
