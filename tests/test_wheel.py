"""The built wheel, in an environment of its own and from another folder, runs the demo: nothing needs the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(command: list[str | Path], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_runs_the_demo_elsewhere(tmp_path: Path) -> None:
    run([sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT], tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run([python, "-m", "pip", "install", "-q", wheel], tmp_path)
    where = run([python, "-c", "import cosim; print(cosim.__file__)"], tmp_path)
    assert where.startswith(str(tmp_path)), "the wheel's own package must be the one that runs"

    cosim = tmp_path / "venv" / "bin" / "cosim"
    first = json.loads(run([cosim, "demo", "--json"], tmp_path))
    assert first["collected"]["simulated"] == first["collected"]["samples"] > 1000
    accuracy = {(each["mode"], each["sensing"]): each["accuracy"] for each in first["outcomes"]}
    assert {mode for mode, _ in accuracy} == {"ideal", "nominal", "iid"}
    assert all(each["n"] == 10_000 for each in accuracy.values())
    assert accuracy["ideal", ""]["value"] >= 0.88
    page = (tmp_path / first["page"]).read_text()
    assert f"{100 * accuracy['iid', 'differential']['value']:.2f}" in page

    again = json.loads(run([cosim, "demo", "--json"], tmp_path))
    assert again["collected"]["simulated"] == 0
    assert again["outcomes"] == first["outcomes"], "kept outcomes, their seconds included, are not made again"
