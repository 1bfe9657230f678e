"""docs/new-cell.md adds a cell that is not in the repository; its files and commands run as they stand."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cosim.circuit.process import load_process

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "new-cell.md").read_text(encoding="utf-8")
Cosim = Callable[..., subprocess.CompletedProcess[str]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(cosim: Cosim, tmp_path: Path) -> Path:
    """The tutorial's cell: its first command, then its files."""
    (first, *_) = blocks("sh")
    assert cosim(*first.split()[1:]).returncode == 0
    folder = tmp_path / "xnor_10t"
    contract, recipe, _ = blocks("toml")
    (netlist,) = blocks("spice")
    for name, text in {"cell.cir": netlist, "cell.toml": contract, "recipe.toml": recipe}.items():
        assert (folder / name).is_file()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_tutorial_runs(cosim: Cosim, folder: Path) -> None:
    said: dict[str, str] = {}
    for line in "".join(blocks("sh")[1:]).splitlines():
        done = cosim(*line.split()[1:])
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        said[line.split()[1]] = done.stdout
    shown = next(block for block in blocks("text") if "all is well" in block)
    assert said["check"].splitlines()[: len(shown.splitlines())] == shown.splitlines()
    assert re.search(r"column, 8 rows on BL and 8 on BLB +L0 +16 +0 ", said["plan"])
    assert re.search(r"160 samples in .*160 simulated now .*, 0 failed, 0 with flipped", said["characterize"])
    assert re.search(r"iid +differential +3 +\d\d\.\d\d %", said["evaluate"])
    again = cosim("plan", folder.name, "--json")
    assert '"left_s": 0.0' in again.stdout


def test_the_page_s_process_loads(tmp_path: Path) -> None:
    """Its process.toml, with a library that has what it names."""
    (tmp_path / "models").mkdir()
    fet = ".subckt pch_lvt_mac d g s b w=1u l=1u\n.param dvth_mis=agauss(0,3e-3,1)\n"
    fet += "m0 d g s b p w=w l=l delvto='dvth_mis'\n.ends\n"
    cards = f".model nch_lvt nmos level=14\n.model p pmos level=14\n{fet}"
    (tmp_path / "models" / "kit.lib").write_text("".join(f".lib {name}\n{cards}.endl\n" for name in ("TT", "SS")))
    (tmp_path / "process.toml").write_text(blocks("toml")[-1])
    process = load_process(tmp_path)
    assert list(process.models) == ["tt", "ss"]
    assert process.device("pfet").sigma("vth", 1e-6, 1e-6) == pytest.approx(3e-3)


def test_the_full_word_line_flips_nothing(cosim: Cosim, folder: Path) -> None:
    """What the page says of this cell, and of the 8T cell."""
    text = (folder / "cell.toml").read_text(encoding="utf-8")
    (folder / "cell.toml").write_text(text.replace("word_line_v = 0.5", "word_line_v = 1.0"), encoding="utf-8")
    assert "cells lose what they store" not in cosim("check", folder.name).stdout
    assert cosim("new", "cell", "eight").returncode == 0
    contract = folder.parent / "eight" / "cell.toml"
    contract.write_text(contract.read_text().replace("word_line_v = 0.5", "word_line_v = 1.0"), encoding="utf-8")
    assert "cells lose what they store" in cosim("check", "eight").stdout
