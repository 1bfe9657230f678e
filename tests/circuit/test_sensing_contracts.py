"""The tables of each sensing style in a cell's contract: what does not fit is refused with line and column."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import column_bench, column_deck
from cosim.circuit.process import load_process
from cosim.errors import InputError
from cosim.resources import find


def edited(cell: str, folder: Path, old: str, new: str) -> Path:
    copy = Path(shutil.copytree(find("netlists", "bitcells", cell), folder / cell))
    text = (copy / "cell.toml").read_text(encoding="utf-8")
    assert old in text
    (copy / "cell.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("cell", "old", "new", "message"),
    [
        (
            "cap_8t1c",
            'sensing = "charge-share"',
            'sensing = "static"',
            r"\[phases\] does not belong to sensing 'static'",
        ),
        ("xnor_8t", 'sensing = "discharge"', 'sensing = "static"', r"needs either \[load\] or \[clamp\]"),
        ("xnor_8t", 'sensing = "discharge"', 'sensing = "charge-share"', r"needs \[reset\] and \[phases\]"),
        ("xnor_8t", "settle_s = 30e-12", "", "'defaults.settle_s' is missing"),
        ("xnor_8t", '"-1" = { wl = 0, wlb = 1 }', "", r"never moves the word line 'wlb'"),
        (
            "hbnn_6t_static",
            "[load]",
            "[clamp]\nlevel = 1\nresistance_ohm = 20\ntransimpedance_ohm = 1\n[load]",
            "either",
        ),
        ("hbnn_6t_static", "\nports = { line", "\nports = { lime", "load: port 'lime' is not.*did you mean 'line'"),
        (
            "hbnn_6t_static",
            '\nports = { line = "line", ',
            "\nports = { ",
            "port 'line' of subcircuit 'line_load' has no role",
        ),
        ("hbnn_6t_static", "{ w = 37.5e-9", "{ v = 37.5e-9", "load: parameter 'v' is not in the subcircuit"),
        ("hbnn_6t_static", 'subcircuit = "line_load"', 'subcircuit = "load"', "no subcircuit 'load'"),
        ("dac_6t", 'drive = "replica"', 'drive = "diode"', "'row_dac.drive'"),
        ("dac_6t", "full_scale_a = 8e-6", "full_scale_a = 0", "'row_dac.full_scale_a'"),
        ("cap_8t1c", 'per_row = ["w_n", "w_p"]', 'per_row = ["w_x"]', "reset: parameter 'w_x'"),
        ("cap_8t1c", "cz = {", "cx = {", "capacitor 'cx' is not in the subcircuit"),
        ("cap_8t1c", 'value = "c_cell"', 'value = "c_well"', "parameter 'c_well' is not.*did you mean 'c_cell'"),
        ("cap_8t1c", "c_cell = 2e-15\n", "", "'c_cell' has no value in"),
        ("cap_8t1c", "held = { wl = 0, ", "held = { ", "port 'wl' of subcircuit 'cap_8t1c' has no role"),
        ("cap_8t1c", "release_s = 300e-12", "release_s = -1", "'phases.release_s'"),
        ("avg_10t1c", "clocks.smp =", "clocks.sample =", "port 'sample' is not in the subcircuit"),
    ],
)
def test_a_contract_that_does_not_fit_its_style_is_refused(
    tmp_path: Path, cell: str, old: str, new: str, message: str
) -> None:
    folder = edited(cell, tmp_path, old, new)
    with pytest.raises(InputError, match=message) as caught:
        load_cell(folder)
    assert "\n" not in str(caught.value)
    assert "cell.toml:" in str(caught.value) or "cell.cir" in str(caught.value)


def test_a_capacitor_type_that_the_process_lacks_is_named(tmp_path: Path) -> None:
    cell = load_cell(edited("cap_8t1c", tmp_path, 'type = "mom"', 'type = "mim"'))
    with pytest.raises(InputError, match=r"no capacitor type 'mim'.*did you mean 'mom'"):
        cell.vth_sigmas(load_process("generic65"))


@pytest.mark.parametrize(("cell", "level"), [("xnor_8t", 0.5), ("cap_8t1c", 1.5), ("cap_8t1c", -0.1)])
def test_a_rest_level_belongs_to_charge_sharing_and_lies_in_the_swing(cell: str, level: float) -> None:
    with pytest.raises(InputError, match="rest_level"):
        column_bench(load_cell(cell), load_process("generic65"), rest_level=level)


def test_the_phases_stand_in_the_deck() -> None:
    bench = column_bench(load_cell("avg_10t1c"), load_process("generic65"), rows=2)
    ones = np.ones(2, np.int8)
    text = column_deck(bench, ones, ones, np.zeros((2, 11))).text
    assert "vclock_smp clock_smp 0 pwl(0 1 2.7e-10 1 2.8e-10 0)" in text
    assert "vclock_shr clock_shr 0 pwl(0 0 3.5e-10 0 3.6e-10 1)" in text
    assert bench.sense_time_s == pytest.approx(555e-12)
