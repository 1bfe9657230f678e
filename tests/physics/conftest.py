"""Direct current sweeps in `ngspice -b`: what the engines do not do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosim.spice.batch import parse_raw

Sweep = Callable[[str], dict[str, np.ndarray]]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Runs a netlist with one analysis; its vectors by lower-case name."""

    def run(text: str) -> dict[str, np.ndarray]:
        (tmp_path / "sweep.cir").write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["ngspice", "-n", "-b", "-r", "sweep.raw", "sweep.cir"],
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return parse_raw((tmp_path / "sweep.raw").read_bytes())

    return run
