"""`cosim new cell` and `cosim check`: one folder from a template to a first read, and all that is wrong with one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim import hdf5
from cosim.circuit.cell import load_cell
from cosim.circuit.cell_check import check_cell_folder
from cosim.circuit.process import load_process
from cosim.circuit.template import write_template
from cosim.errors import InputError, UnsafeError
from cosim.resources import data_folder

Cosim = Callable[..., subprocess.CompletedProcess[str]]
SHIPPED = sorted(path.parent.name for path in (data_folder("netlists") / "bitcells").glob("*/cell.toml"))
SMALL = {
    "rows = 64": "rows = 8",
    "samples = 32": "samples = 16",
    "[0, 8, 16, 24, 32, 40, 48, 56, 64]": "[0, 1, 2, 4, 6, 8]",
}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    write_template("mine", "xnor_8t", tmp_path / "mine")
    return tmp_path / "mine"


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def shrink(folder: Path) -> None:
    """A recipe of eight rows without comparators."""
    edit(folder / "recipe.toml", *SMALL.items())
    text = (folder / "recipe.toml").read_text().partition("[[comparator]]")[0]
    (folder / "recipe.toml").write_text(text)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- The template ---


@pytest.mark.parametrize("source", SHIPPED)
def test_a_template_of_every_shipped_cell_is_well(source: str, tmp_path: Path) -> None:
    files = write_template("mine", source, tmp_path / "mine")
    assert [file.name for file in files] == ["cell.cir", "cell.toml", "recipe.toml", "README.md"]
    report = check_cell_folder(tmp_path / "mine", load_process("generic65"))
    assert report.problems == ()
    assert report.cell is not None
    assert report.cell.subcircuit.name == "mine"
    assert report.cell.devices == load_cell(source).devices


def test_the_template_characterizes_as_it_is_but_for_its_size(cosim: Cosim, tmp_path: Path) -> None:
    """And a folder moved elsewhere gives the same samples: nothing in it is a path."""
    assert cosim("new", "cell", "mine", "--from", "xnor_8t").returncode == 0
    shrink(tmp_path / "mine")
    done = cosim("characterize", "mine", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["simulated"] == 96
    assert (tmp_path / "runs" / "mine" / "samples.h5").is_file()
    planned = json.loads(cosim("plan", "mine", "--json").stdout)
    assert planned["left_s"] == 0
    assert {point["done"] for point in planned["points"]} == {16}


@pytest.mark.parametrize("name", ["", "Mine", "1t", "a-b", "../a", "a b", "a/b", "ä", "a" * 41, "a\n"])
def test_names_that_are_no_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name for a cell"):
        write_template(name, "xnor_8t", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(mine: Path, cosim: Cosim) -> None:
    before = files_of(mine)
    done = cosim("new", "cell", "mine")
    assert (done.returncode, done.stderr) == (
        2, "cosim: mine: is there already; nothing is overwritten (give another name or --out)\n"
    )  # fmt: skip
    (mine.parent / "link").symlink_to(mine.parent / "nowhere")
    assert cosim("new", "cell", "other", "--out", "link").returncode == 2
    assert files_of(mine) == before
    assert not (mine.parent / "nowhere").exists()


def test_an_unknown_source_is_told(cosim: Cosim, tmp_path: Path) -> None:
    done = cosim("new", "cell", "mine", "--from", "xnor_9t")
    assert done.returncode == 2
    assert "did you mean 'xnor_8t'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_shipped_recipe_runs_on_a_folder(mine: Path, cosim: Cosim) -> None:
    """And a folder without a recipe says what to do."""
    (mine / "recipe.toml").unlink()
    done = cosim("plan", "mine")
    assert (done.returncode, "give --recipe quick" in done.stderr) == (2, True)
    done = cosim("plan", "mine", "--recipe", "quick")
    assert done.returncode == 0, done.stderr
    assert "column, 0 rows on BL and 64 on BLB" in done.stdout
    assert done.stdout.splitlines()[-1] == "Next: cosim characterize mine --recipe quick --out runs/mine-quick"


# --- The check ---


def test_a_good_cell_is_shown_and_read(mine: Path, cosim: Cosim) -> None:
    done = cosim("check", "mine")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert lines[0] == "mine: all is well"
    assert "  mpul    pfet     90     60  40.8 mV" in lines
    assert lines[-1] == "Next: cosim plan mine"
    reads = json.loads(cosim("check", "mine", "--json").stdout)["reads"]
    levels = [read["lines_v"]["bl"] for read in reads]
    assert levels == sorted(levels, reverse=True)
    assert levels[1] == pytest.approx(0.597, abs=0.005)  # The cell's README.
    assert [read["flipped"] for read in reads] == [0, 0, 0]


def test_every_problem_is_told_with_its_place(mine: Path, cosim: Cosim) -> None:
    edit(
        mine / "cell.toml",
        ('supply = "vdd"', 'supply = "VDD"'),
        ("w_up = 90e-9", "w_up = -90e-9"),
        ('"0" = { wl = 0, wlb = 0 }', '"0" = { wl = 0, wlc = 0 }'),
        ("blb = 1\n", ""),
        ('delvto = "dvt_pul"', 'delvto = "dvt_pur"'),
        ('mpdl = { type = "nfet"', 'mpdl = { type = "pfet"'),
        ("mpxr = {", "mpxq = {"),
        ("word_line_v = 0.5", "word_line_v = 2.5"),
    )
    edit(mine / "recipe.toml", ("samples = 32", "sampels = 32"))
    done = cosim("check", "mine")
    told = done.stderr.splitlines()
    assert done.returncode == 2
    assert told[-1] == f"cosim: {len(told) - 1} problems; nothing was run"
    for place, words in (
        ("cell.toml", "write 'vdd'"),
        ("cell.toml", "w_up must be positive"),
        ("cell.toml", "unknown node 'wlc'"),
        ("cell.toml", "'blb' has no level"),
        ("cell.toml", "mpul does not use the parameter 'dvt_pur'"),
        ("cell.toml", "mpdl is no 'pfet' in the netlist"),
        ("cell.toml", "did you mean 'mpxr'"),
        ("cell.toml", "outside its range 0.3..1.2"),
        ("recipe.toml", "did you mean 'samples'"),
    ):
        (line,) = [line for line in told if words in line]
        assert line.startswith(f"mine/{place}:")
        assert all(part.isdigit() for part in line.split(":")[1:3])


def test_wrong_values_of_the_contract_do_not_hide_a_hostile_netlist(mine: Path, cosim: Cosim) -> None:
    edit(mine / "cell.toml", ("rows = 64", "rowz = 64"), ("vdd_v = 1.0", 'vdd_v = "1"'))
    with (mine / "cell.cir").open("a") as netlist:
        netlist.write(".control\nshell touch canary\n.endc\n")
    before = files_of(mine.parent)
    done = cosim("check", "mine")
    assert done.returncode == 4
    assert ".control runs commands" in done.stderr.splitlines()[0]
    assert "rowz" in done.stderr
    assert "'defaults.vdd_v': expected a number" in done.stderr
    assert files_of(mine.parent) == before


def test_a_missing_engine_is_told(mine: Path, cosim: Cosim, tmp_path: Path) -> None:
    done = cosim("check", "mine", NGSPICE_LIBRARY_PATH=str(tmp_path / "none.so"), PATH="/nowhere")
    assert done.returncode == 5, done.stderr


def test_remarks_name_what_was_forgotten(mine: Path, cosim: Cosim) -> None:
    text = (mine / "cell.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("mpxr")]
    (mine / "cell.toml").write_text("\n".join(kept) + "\n")
    assert "exactly alike in every cell: mpxr" in cosim("check", "mine").stdout


@pytest.mark.parametrize("kind", ["process/generic65", "process/freepdk45", "sense/strongarm", "bitcells/xnor_8t"])
def test_other_folders_are_checked_too(kind: str, cosim: Cosim) -> None:
    assert "all is well" in cosim("check", data_folder("netlists") / kind).stdout


# --- Real kits, and a cell in other words ---


@pytest.mark.parametrize("kit", ["freepdk45", "gf180mcu"])
def test_a_small_column_is_characterized_in_a_kit(kit: str, tmp_path: Path, cosim: Cosim) -> None:
    """FreePDK45 with the 8T cell as it is; GF180MCU with a cell of its own names, ports' order and mismatch."""
    if kit == "freepdk45":
        write_template("mine", "xnor_8t", tmp_path / "mine")
        shrink(tmp_path / "mine")
    else:
        write_template("mine", Path(__file__).parents[1] / "circuit" / "gf180_8t", tmp_path / "mine")
        edit(tmp_path / "mine" / "recipe.toml", ("samples = 32", "samples = 16"), ("rows = 16", "rows = 8"))
        edit(tmp_path / "mine" / "recipe.toml", ("[0, 2, 4, 6, 8, 10, 12, 14, 16]", "[0, 1, 2, 4, 6, 8]"))
        text = (tmp_path / "mine" / "recipe.toml").read_text().partition("[[comparator]]")[0]
        (tmp_path / "mine" / "recipe.toml").write_text(text)
    edit(tmp_path / "mine" / "recipe.toml", ('process = "generic65"', f'process = "{kit}"'))
    done = cosim("characterize", "mine", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["samples"], told["failed"], told["flipped"]) == (96, 0, 0)
    samples = hdf5.read(tmp_path / "runs" / "mine" / "samples.h5", filetype="cosim-samples", major=1)
    n_minus, bl_v = (samples.datasets[f"column_{name}"].values for name in ("n_minus", "bl_v"))
    means = [bl_v[n_minus == n].mean() for n in (0, 2, 4, 8)]
    assert means == sorted(means, reverse=True)
    assert bl_v[n_minus == 4].std() > 2e-3
    assert "agauss" not in str(samples.attributes["netlist_process"])


# --- Hostile folders, by every way in ---

HOSTILE = {
    "control": ".control\nshell touch canary\n.endc\n",
    "capitals": ".CONTROL\nshell touch canary\n.ENDC\n",
    "after the end": ".end\n.control\nshell touch canary\n.endc\n",
    "script": "*ng_script\nshell touch canary\n",
    "absolute include": ".include /etc/passwd\n",
    "parent include": ".include ../secret.inc\n",
    "split include": ".inc\n+ ../secret.inc\n",
    "library": ".lib '../secret.inc' tt\n",
    "code model": 'a1 %v([x y]) %v(z) reader\n.model reader filesource (file="secret.inc")\n',
    "source from a file": "v1 x 0 pwl file=secret.inc\n",
}


@pytest.mark.parametrize("way", ["cell", "include", "process", "library", "amplifier"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused_by_every_way_in(name: str, way: str, mine: Path, cosim: Cosim) -> None:
    """In characterize, which would run it: one line, exit code 4, and not a file written."""
    shrink(mine)
    (mine.parent / "secret.inc").write_text(".param a=1\n")
    text = HOSTILE[name]
    place = "cell.cir"
    if way == "cell":
        with (mine / place).open("a") as netlist:
            netlist.write(text)
    elif way == "include":
        place = "part.inc"
        (mine / place).write_text(text)
        with (mine / "cell.cir").open("a") as netlist:
            netlist.write(".include part.inc\n")
    elif way in ("process", "library"):
        place = "tt.lib"
        _process(mine / "process", text, by_section=way == "library")
        edit(mine / "recipe.toml", ('"generic65"', '"./process"'))
    else:
        place = "amplifier.cir"
        shutil.copytree(data_folder("netlists") / "sense" / "strongarm", mine / "sense")
        with (mine / "sense" / place).open("a") as netlist:
            netlist.write(text)
        with (mine / "recipe.toml").open("a") as recipe:
            recipe.write(
                '[[comparator]]\namplifier = "./sense"\nsensing = "single_ended"\nlevel_v = [0.5, 0.7]\nsamples = 16\n'
            )
    before = files_of(mine.parent)
    done = cosim("characterize", "mine", "--out", "out")
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("\n") == 1
    assert place in done.stderr
    assert files_of(mine.parent) == before


def _process(folder: Path, text: str, *, by_section: bool) -> None:
    """generic65 with a hostile text in its tt corner, as files or as the sections of a library."""
    source = data_folder("netlists") / "process" / "generic65"
    if not by_section:
        shutil.copytree(source, folder)
        with (folder / "tt.lib").open("a") as library:
            library.write(text)
        return
    folder.mkdir()
    models = (source / "tt.lib").read_text()
    (folder / "tt.lib").write_text(f".lib TT\n{models}\n.endl\n.lib other\n{text}\n.endl\n")
    devices = "".join(f'[devices.{t}]\nmodel = "{t}"\na_vt_vm = 3e-9\n' for t in ("nfet", "pfet"))
    (folder / "process.toml").write_text(
        f'title = "x"\n[corners]\ntt = [{{ file = "tt.lib", section = "tt" }}]\n{devices}'
    )


def test_a_library_of_the_users_own_by_section(mine: Path, cosim: Cosim) -> None:
    """The same cards as generic65's, so the same read as its README says."""
    shrink(mine)
    _process(mine / "process", "", by_section=True)
    edit(mine / "recipe.toml", ('"generic65"', '"./process"'))
    done = cosim("check", "mine")
    assert done.returncode == 0, done.stderr
    assert "One read in ngspice, process, no mismatch:" in done.stdout
    read = json.loads(cosim("check", "mine", "--json").stdout)["reads"][1]["lines_v"]["bl"]
    assert read == pytest.approx(0.5975, abs=1e-4)
    assert cosim("characterize", "mine", "--workers", "1").returncode == 0


# --- Any text ---


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_to_the_contract_is_told_and_never_raised(mine: Path, data: st.DataObject) -> None:
    """A piece of the contract or the netlist is cut out or doubled: the check says something or finds it well."""
    name = data.draw(st.sampled_from(["cell.toml", "cell.cir"]))
    good = (data_folder("netlists") / "bitcells" / "xnor_8t" / name).read_text()
    lines = good.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    what = data.draw(st.sampled_from(["cut", "double", "half", "noise"]))
    changed = {
        "cut": [],
        "double": [lines[at], lines[at]],
        "half": [lines[at][: len(lines[at]) // 2] + "\n"],
        "noise": [lines[at], data.draw(st.text(max_size=12)) + "\n"],
    }[what]
    for each in ("cell.toml", "cell.cir"):
        source = (data_folder("netlists") / "bitcells" / "xnor_8t" / each).read_text()
        text = "".join([*lines[:at], *changed, *lines[at + 1 :]]) if each == name else source
        (mine / each).write_text(text, encoding="utf-8", errors="replace", newline="")
    report = check_cell_folder(mine, load_process("generic65"))
    assert (report.cell is None) == bool(report.problems)
    for problem in report.problems:
        assert isinstance(problem, InputError | UnsafeError)
        assert "\n" not in str(problem)
        assert "mine" in str(problem)
