"""Every shipped netlist is taken by ngspice as it is: benches run, parts are read without a complaint."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from cosim.circuit.guard import check_netlist
from cosim.resources import data_folder

NETLISTS = data_folder("netlists")
BENCHES = sorted(path for path in NETLISTS.rglob("*.cir") if ".tran" in path.read_text() or ".dc" in path.read_text())
PARTS = sorted({*NETLISTS.rglob("*.cir"), *NETLISTS.rglob("*.lib")} - set(BENCHES))
NOTHING_TO_RUN = 'Note: No ".plot", ".print", or ".fourier" lines; no simulations run'


def ngspice(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ngspice", "-n", "-b", str(path)],
        cwd=folder,
        env=os.environ | {"HOME": str(folder), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(NETLISTS)) for path in paths]


def test_each_folder_has_a_bench() -> None:
    assert {path.parent for path in BENCHES} == {path.parent for path in PARTS}


@pytest.mark.parametrize("path", BENCHES, ids=names(BENCHES))
def test_a_bench_runs_and_measures(path: Path, tmp_path: Path) -> None:
    done = ngspice(path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"error|warning|failed|unrecognized", done.stdout + done.stderr, re.IGNORECASE)
    asked = re.findall(r"^\.meas\s+\w+\s+(\w+)", path.read_text(), re.MULTILINE)
    assert asked
    assert set(asked) <= set(re.findall(r"^(\w+)\s+=", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("path", PARTS, ids=names(PARTS))
def test_a_part_is_read_without_a_complaint(path: Path, tmp_path: Path) -> None:
    done = ngspice(path, tmp_path)
    assert done.stderr.strip() == NOTHING_TO_RUN
    assert not re.search(r"error|warning|unrecognized", done.stdout, re.IGNORECASE)


@pytest.mark.parametrize("path", PARTS, ids=names(PARTS))
def test_a_part_passes_the_guard_as_a_part(path: Path) -> None:
    assert check_netlist(path)
