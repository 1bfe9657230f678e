"""Names out of contracts and folders cannot bring commands into a deck; neither can anything that slips past."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_contracts import CELL, edited

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.cell import load_cell
from cosim.circuit.column import column_bench, column_deck
from cosim.circuit.comparator import comparator_bench, comparator_deck
from cosim.circuit.corner import Corner
from cosim.circuit.deck import Deck
from cosim.circuit.process import Process, load_process
from cosim.errors import InputError, UnsafeError
from cosim.resources import find

PROCESS = find("netlists", "process", "generic65")
SHELL = "\n.control\nshell touch PWNED\n.endc\n* "


def deck_text(process: Process, corner: str = "tt") -> str:
    bench = column_bench(load_cell("xnor_8t"), process, Corner(corner), rows=1)
    return column_deck(bench, np.ones(1, np.int8), np.ones(1, np.int8), np.zeros((1, 8))).text


@pytest.mark.parametrize(
    "line",
    [
        *(".control", "  .ConTrol", "\t.endc", ".exec x", ".include x", ".INC x", ".lib x tt", ".csparam a=1"),
        *(".shell x", ".end\x00", ".endx", ".meas x", ".title x", ".print v(a)", ".params a=1", "+.control", "+"),
        *("*# shell id", "*ng_script", "* NG_script", "*ngscript", "a1 b c d", "u1 b c", "1", "$x", "=x"),
        *("r1 a 1 $ x", 'r1 a b "x"', "r1 a b `id`", "r1 a b \\", "r1 a\rb", "* a\rb", "* a\x1b[0m", "* a\x85b"),
        "r1 a b \xe4",
        "\x0c",
    ],
)  # fmt: skip
def test_a_deck_with_a_line_of_no_expected_form_is_refused(line: str) -> None:
    for before, after in (("* title\n", "\n.end\n"), ("", "\n"), ("* title\n.end\n", "\n")):
        with pytest.raises(UnsafeError, match=f"deck, line {before.count(chr(10)) + 1}: "):
            Deck(before + line + after, ("a",), (1e-9,))


@pytest.mark.parametrize("text", ["* title\n.end", ".end", "r1 a b 1"])
def test_a_deck_ends_its_last_line(text: str) -> None:
    with pytest.raises(UnsafeError, match="is no line of a deck"):
        Deck(text, (), ())


def test_what_decks_hold_is_accepted() -> None:
    cards = (
        ".SUBCKT s a\n.ends s\n.model n nmos(level=14\n+ vth0=0.4)\n.param\ta={1+2}\n.if(a)\n.endif\n.option temp=27"
    )
    rest = ".ic v(a)=1\n  r1 a 0 1k\nb1 a 0 i='v(a)>1?2:3'\n.save v(a)\n.tran 1p 1n\n.end"
    text = f"* title: ä (more) $ \\ x\n*\n\n{cards}\n{rest}\n"
    assert Deck(text, ("a", "x1.q#b"), ()).text == text


@pytest.mark.parametrize("probe", ["", "a b", "a\nshell id", "a;b", "`id`", "$x"])
def test_a_probe_is_a_plain_name(probe: str) -> None:
    with pytest.raises(UnsafeError, match="no plain name"):
        Deck(".end\n", (probe,), ())


@pytest.mark.parametrize("key", ["model", "capacitor", "type"])
def test_no_string_of_mismatch_toml_reaches_the_deck_unchecked(tmp_path: Path, key: str) -> None:
    evil = '"nfet w=1u\\n.control\\nshell touch PWNED\\n.endc\\n* "'
    old, new = {
        "model": ('model = "nfet"', f"model = {evil}"),
        "capacitor": ("[capacitors.mom]", f"[capacitors.{evil}]"),
        "type": ("[devices.nfet]", f"[devices.{evil}]"),
    }[key]
    folder = edited(PROCESS, tmp_path, "mismatch.toml", old, new)
    with pytest.raises(InputError, match="expected a string that matches") as caught:
        load_process(folder)
    assert caught.value.place is not None
    assert "mismatch.toml:" in caught.value.place


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('subcircuit = "xnor_8t"', 'subcircuit = "xnor_8t a\\n"'),
        ('word_lines = ["wl", "wlb"]', 'word_lines = ["wl\\n", "wlb"]'),
        ("w_up = 90e-9", '"w_up\\n.control" = 90e-9'),
        ("mpul = {", '"mpul\\n" = {'),
        ('delvto = "dvt_pul"', 'delvto = "dvt_pul=1\\n*"'),
        ('type = "pfet"', 'type = "pfet\\n"'),
        ("[precharge]\nbl = 1", '[precharge]\n"bl " = 1'),
        ('supply = "vdd"', 'supply = "vdd 0"'),
        ("[precharge]", '[phases]\nrelease_s=1\ndrive_s=1\nclocks."a b" = {}\n[precharge]'),
        ("[precharge]", '[load]\nsubcircuit="a\\n"\nports={a="line"}\n[precharge]'),
        ("[precharge]", '[load]\nsubcircuit="a"\nports={a="line"}\nparameters."w w"=1\n[precharge]'),
        ("[precharge]", '[capacitors.c1]\ntype="mom"\nvalue="a"\nshift="b c"\n[precharge]'),
        ('title = "', 'title = "\\u001b[31m'),
    ],
)
def test_no_string_of_cell_toml_reaches_the_deck_unchecked(tmp_path: Path, old: str, new: str) -> None:
    folder = edited(CELL, tmp_path, "cell.toml", old, new)
    with pytest.raises(InputError, match=r"cell\.toml:\d+:\d+: .*expected a string that matches"):
        load_cell(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"nfet_03v3"', '"nfet_03v3\\n.control"'),
        ('"mis_vth"', '"mis_vth=1 x"'),
        ('"mis_k"', '"mis k"'),
        ("mc_skew = 3", '"mc_skew=3\\n.control\\n" = 3'),
        ("tt = [", '"tt\\n.control" = ['),
        ('section = "typical"', 'section = "typical\\n"'),
        ("[devices.pfet]", '[devices."p fet"]'),
        ('package = "', 'package = "../'),
    ],
)
def test_no_string_of_process_toml_reaches_the_deck_unchecked(tmp_path: Path, old: str, new: str) -> None:
    folder = edited(find("netlists", "process", "gf180mcu"), tmp_path, "process.toml", old, new)
    with pytest.raises(InputError, match=r"process\.toml:\d+:\d+: .*expected a string that matches"):
        load_process(folder)


@pytest.mark.parametrize(
    ("kind", "load"), [("bitcells", load_cell), ("sense", load_amplifier), ("process", load_process)]
)
def test_a_folders_name_cannot_hold_commands(tmp_path: Path, kind: str, load: object) -> None:
    source = {"bitcells": "xnor_8t", "sense": "strongarm", "process": "generic65"}[kind]
    folder = shutil.copytree(find("netlists", kind, source), tmp_path / f"evil{SHELL.replace('/', '')}x")
    assert callable(load)
    with pytest.raises(InputError, match="the folder's name"):
        load(folder)


def test_a_corners_name_cannot_hold_commands(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PROCESS, tmp_path / "mine"))
    with pytest.raises(InputError, match="cannot be the name of a process corner"):
        Corner(f"tt{SHELL}")
    shutil.copy(folder / "tt.lib", folder / f"hot{SHELL}.lib")
    with pytest.raises(InputError, match="cannot be the name of a process corner"):
        load_process(folder)


def test_names_that_slip_past_the_contracts_stop_at_the_deck() -> None:
    """As a process or cell made in Python: no title has a raw name, and no model a second line."""
    process = load_process("generic65")
    cell, amplifier = load_cell("xnor_8t"), load_amplifier("strongarm")
    evil = dataclasses.replace(cell, name=f"evil{SHELL}")
    bench = column_bench(evil, process, rows=1)
    deck = column_deck(bench, np.ones(1, np.int8), np.ones(1, np.int8), np.zeros((1, 8)))
    assert deck.text.startswith("* evil_.control_shell touch PWNED_.endc__ : one read of 1 rows, tt 1 V 27 C\n")
    bench = comparator_bench(dataclasses.replace(amplifier, name=f"evil{SHELL}"), process)
    assert "\n.control" not in comparator_deck(bench, 0.1, np.zeros(11)).text
    model = dataclasses.replace(process.devices["nfet"], model=f"nfet w=1u{SHELL}")
    with pytest.raises(UnsafeError, match=r"'\.control' is no line of a deck"):
        deck_text(dataclasses.replace(process, devices={**process.devices, "nfet": model}))
