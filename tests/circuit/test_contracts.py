"""Contracts of cells and sense amplifiers: what is right loads, what is wrong is told with file and line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.cell import load_cell
from cosim.circuit.process import load_process
from cosim.errors import InputError, UnsafeError
from cosim.resources import find

CELL = find("netlists", "bitcells", "xnor_8t")
AMPLIFIER = find("netlists", "sense", "strongarm")


def edited(source: Path, folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of a circuit's folder with one text changed; the text must be there."""
    copy = Path(shutil.copytree(source, folder / source.name))
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return copy


def line_of(path: Path, text: str) -> int:
    return path.read_text(encoding="utf-8").split(text)[0].count("\n") + 1


def test_the_cell_loads_by_name_and_by_folder() -> None:
    cell = load_cell("xnor_8t")
    assert load_cell(CELL) == cell
    assert (cell.name, cell.sensing, cell.defaults.rows) == ("xnor_8t", "discharge", 64)
    assert cell.ports.bit_lines == ("bl", "blb")
    assert cell.drive[-1] == {"wl": 0, "wlb": 1}
    assert [device.name for device in cell.devices][:2] == ["mpul", "mpur"]
    assert len(cell.devices) == 8


def test_sigmas_follow_pelgrom_in_the_contracts_order() -> None:
    process = load_process("generic65")
    sizes = np.array([90, 90, 180, 180, 120, 120, 120, 120]) * 1e-9 * 60e-9
    np.testing.assert_allclose(load_cell("xnor_8t").vth_sigmas(process), 3e-9 / np.sqrt(sizes), rtol=1e-12)
    amplifier = load_amplifier("strongarm")
    assert amplifier.vth_sigmas(process).shape == (11,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"wl", "wlb"]', '"wl", "wbl"]', "word lines: port 'wbl' is not in the subcircuit .*did you mean 'wl'"),
        ('word_lines = ["wl", "wlb"]', 'word_lines = ["wl"]', "port 'wlb' of subcircuit 'xnor_8t' has no role"),
        ('supply = "vdd"', 'supply = "wl"', "port 'wl' has two roles"),
        ('storage = ["q", "qb"]', 'storage = ["q", "qx"]', "storage: port 'qx' is not in the subcircuit"),
        ("w_up = 90e-9", "w_up = -90e-9", "w_up must be positive"),
        ("w_up = 90e-9", "w_upp = 90e-9", "parameter 'w_upp' is not in the subcircuit"),
        ("mpxr = {", "mpxx = {", "device 'mpxx' is not in the subcircuit .*did you mean 'mpxr'"),
        ('delvto = "dvt_pul"', 'delvto = "dvt_pll"', "parameter 'dvt_pll' is not in the subcircuit"),
        ('"-1" = { wl = 0, wlb = 1 }', '"-1" = { wl = 0, wlc = 1 }', "drive: unknown node 'wlc'"),
        ('"-1" = { wl = 0, wlb = 1 }', '"-1" = { wl = 0 }', "drive: 'wlb' has no level"),
        ('"0" = { wl = 0, wlb = 0 }', "", r"\[drive\] has no entry for '0'"),
        ("blb = 1\n", "", "precharge: 'blb' has no level"),
        ("word_line_v = 0.5", "word_line_v = 5.0", "word_line_v = 5 is outside its range 0.3..1.2"),
        ("rows = 64\n", "rowz = 64\n", "unknown key 'defaults.rowz'.*did you mean 'rows'"),
        ("rows = 64\n", "rows = 0\n", "'defaults.rows': expected a number greater than 0"),
        ('sensing = "discharge"', 'sensing = "psychic"', "'sensing': expected 'discharge'"),
        ('subcircuit = "xnor_8t"', 'subcircuit = "xnor"', "no subcircuit 'xnor'"),
        ('bit_lines = ["bl", "blb"]', 'bit_lines = ["bl"]', "port 'blb' of subcircuit 'xnor_8t' has no role"),
        ('bit_lines = ["bl", "blb"]', "bit_lines = []", "'ports.bit_lines': expected at least 1 entries"),
        ('delvto = "dvt_pur"', 'delvto = "dvt_pul"', "mpur: 'dvt_pul' shifts mpul already"),
        ('"dvt_pur"', '"dvt_pur", current = "dvt_pxr"', "mpur: 'dvt_pxr' shifts mpxr already"),
        ('delvto = "dvt_pur"', 'delvto = "w_up"', "mpur: 'w_up' is a size in .parameters., no shift"),
        ("w_pass = 120e-9", "w_pass = 1e-320", r"w_pass: expected 1e-9\.\.1e-3 m, got 9\.99989e-321"),
        ("w_pass = 120e-9", "w_pass = 120", r"w_pass: expected 1e-9\.\.1e-3 m, got 120"),
        ("\nl = 60e-9", "\nl = 0.9e-9", r"l: expected 1e-9\.\.1e-3 m, got 9e-10"),
        ('netlist = "cell.cir"', 'netlist = "sell.cir"', "the netlist 'sell.cir' is missing"),
        ('netlist = "cell.cir"', 'netlist = "../cell.cir"', "expected a file beside the contract"),
        ('"+1" = { wl = 1, wlb = 0 }', '"+2" = { wl = 1, wlb = 0 }', "drive"),
    ],
)
def test_a_wrong_cell_contract_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = edited(CELL, tmp_path, "cell.toml", old, new)
    with pytest.raises(InputError, match=message) as caught:
        load_cell(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_an_error_names_its_line(tmp_path: Path) -> None:
    folder = edited(CELL, tmp_path, "cell.toml", "w_up = 90e-9", "w_up = -90e-9")
    line = line_of(folder / "cell.toml", "w_up = -90e-9")
    with pytest.raises(InputError, match=re.escape(f"cell.toml:{line}:")):
        load_cell(folder)


def test_an_unknown_type_of_transistor_or_capacitor_is_told_with_its_line(tmp_path: Path) -> None:
    process = load_process("generic65")
    for source, file, load, old, new in (
        (CELL, "cell.toml", load_cell, 'mpur = { type = "pfet"', 'mpur = { type = "pfetx"'),
        (AMPLIFIER, "amplifier.toml", load_amplifier, 'mpn = { type = "pfet"', 'mpn = { type = "pfetx"'),
        (find("netlists", "bitcells", "avg_10t1c"), "cell.toml", load_cell, 'type = "mom"', 'type = "pfetx"'),
    ):
        folder = edited(source, tmp_path, file, old, new)
        line = line_of(folder / file, '"pfetx"')
        with pytest.raises(InputError, match=re.escape(f"{file}:{line}:") + ".*has no .* type 'pfetx'"):
            load(folder).vth_sigmas(process)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('shift = "dev_c"', 'shift = "dvt_t9"', "cz: 'dvt_t9' shifts mt9 already"),
        ('shift = "dev_c"', 'shift = "c_wire"', "cz: 'c_wire' is a size"),
        ("c_cell = 2e-15", "c_cell = 1e-320", r"c_cell: expected 1e-18\.\.1e-6 F"),
    ],
)
def test_a_wrong_capacitor_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = edited(find("netlists", "bitcells", "avg_10t1c"), tmp_path, "cell.toml", old, new)
    with pytest.raises(InputError, match=r"cell\.toml:\d+:\d+: " + message):
        load_cell(folder)


def test_a_string_with_a_separator_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(CELL, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for text in ("./mine", "mine/", "mine/."):
        assert load_cell(text).name == "mine"
    with pytest.raises(InputError, match="there is no 'mine'"):
        load_cell("mine")


@pytest.mark.parametrize("path", ["~nouser_of_this_name", "~nouser_of_this_name/x", "./a\0b", "./" + 5000 * "x"])
def test_a_path_that_nobody_can_have_is_told(path: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_cell(path)


def test_a_negative_width_in_the_netlist_alone_does_not_reach_the_deck() -> None:
    """Sizes with mismatch must be in the contract, so the netlist's own defaults are never used for them."""
    cell = load_cell("xnor_8t")
    assert {device.width for device in cell.devices} | {"l"} == set(cell.parameters)


def test_an_unsafe_netlist_is_refused(tmp_path: Path) -> None:
    folder = edited(CELL, tmp_path, "cell.cir", ".ends xnor_8t", ".ends xnor_8t\n.control\nshell id\n.endc")
    with pytest.raises(UnsafeError, match=r"cell\.cir:\d+"):
        load_cell(folder)


def test_an_unknown_name_and_a_missing_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'xnor_8t'"):
        load_cell("xnor8t")
    with pytest.raises(InputError, match="no such folder"):
        load_cell(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"cell\.toml"):
        load_cell(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('clock = "clk"', 'clock = "click"', "clock: port 'click' is not in the subcircuit"),
        ('["outp", "outn"]', '["outp"]', "'ports.outputs': expected at least 2 entries"),
        ('delvto = "dvt_inn"', 'delvto = "dvt_inp"', "minn: 'dvt_inp' shifts minp already"),
        ("inn = { }", "", "port 'inn' of subcircuit 'strongarm' has no role"),
        ("inp = { differential = 1 }", "inp = { }", "no input has a share of the differential"),
        ("w_tail = 1e-6", "w_tail = 0", "w_tail must be positive, got 0"),
        ("mtail = {", "mtale = {", "device 'mtale' is not in the subcircuit"),
        ("decision_s = 400e-12", "decision_s = -1", "'defaults.decision_s'"),
        ("c_load_f = 1e-15", "c_load_f = 1e-15\nspeed = 1", "unknown key 'defaults.speed'"),
    ],
)
def test_a_wrong_amplifier_contract_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = edited(AMPLIFIER, tmp_path, "amplifier.toml", old, new)
    with pytest.raises(InputError, match=message) as caught:
        load_amplifier(folder)
    assert "amplifier.toml" in str(caught.value)


def test_the_four_input_amplifier_reads_both_lines_against_both_references() -> None:
    amplifier = load_amplifier("strongarm_differential")
    signal = {name: share.differential for name, share in amplifier.inputs.items()}
    reference = {name: share.reference for name, share in amplifier.inputs.items()}
    assert signal["bl"] - signal["blb"] == 1.0
    assert reference["bl"] - reference["blb"] == reference["refp"] - reference["refn"] == 1.0
    assert len(amplifier.devices) == 14
