"""Netlists are untrusted: what ngspice could run or read through them is refused, and cells and processes pass."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.circuit.guard import check_netlist, check_text
from cosim.errors import CosimError, InputError, UnsafeError
from cosim.resources import data_folder

CELL = ".subckt cell a b vdd vss w=1u\nm1 a b vss vss nfet w={w} l=60n\n.ends cell\n"
RUNS = "shell touch canary"
CONTROL = f".control\n{RUNS}\n.endc\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files; the first is the netlist."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    return folder / next(iter(files))


# --- What must pass ---


def repository_netlists() -> list[Path]:
    return [path for path in sorted(data_folder("netlists").rglob("*")) if path.suffix in (".cir", ".lib", ".inc")]


@pytest.mark.parametrize("path", repository_netlists(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_own_netlists_pass(path: Path) -> None:
    """Cells, amplifiers and processes as parts of their own folder, the benches as benches."""
    bench = "\n.end\n" in path.read_text()
    assert check_netlist(path, root=data_folder("netlists") if bench else None, bench=bench)


def test_there_are_netlists_of_our_own() -> None:
    assert len(repository_netlists()) >= 7


def test_statements_are_written_anew() -> None:
    text = (
        "* title\r\n.MODEL nfet nmos (level=14 $ a comment\r\n* between\r\n\r\n+ vth0='0.4+0.01') ; more\r\n\t.end\r\n"
    )
    assert check_text(text, place="x") == ".MODEL nfet nmos (level=14\n+ vth0='0.4+0.01')\n"
    assert check_text(CELL, place="x") == CELL
    assert check_text("", place="x") == ""


@pytest.mark.parametrize(
    "text",
    [
        ".model d1 d(is=1e-15 n=1)",
        ".model nfet.0 nmos level=54 wmin=1e-7 vth0={0.4+dvt*agauss(0,1,3)}",
        ".param a=1 b={a*2} c='max(a,b) > 1 ? a : b && !a'",
        ".func f(x) {x*x}",
        ".global vdd vss",
        ".option scale=1e-6 tnom=27",
        ".if (a==1)\n.param b=1\n.elseif (a==2)\n.param b=2\n.else\n.param b=3\n.endif",
        ".subckt r2 a b\nr1 a m 1k\nr2 m b r='1k*2' tc1=1e-3\n.ends",
        ".subckt s a b\nb1 a b v=v(a,b)*2+i(v1)\ne1 a b value={v(a)*2}\nv1 a b dc 0 pulse(0 1 0 1p 1p 1n 2n)\n.ends",
        ".subckt o a\n.subckt i a\nr1 a 0 1\n.ends i\nx1 a i\n.ends o",
        ".ic v(q)=0\n.nodeset v(qb)=1",
        "*.control is a comment\n* so is .include /etc/passwd",
    ],
)
def test_what_cells_and_processes_need_passes(text: str) -> None:
    assert check_text(text, place="x") or text.startswith("*")


def test_a_bench_may_do_more() -> None:
    text = ".options reltol=1e-4 method=trap\nv1 a 0 1\nr1 a 0 1k\n.ic v(a)=0\n.tran 1p 1n uic\n.save v(a)\n.end\n"
    assert check_text(text, place="x", bench=True).endswith(".save v(a)\n")
    with pytest.raises(CosimError):
        check_text(text, place="x")
    with pytest.raises(UnsafeError, match="'>' in a measurement"):
        check_text(".meas tran a find v(a) at=1n > out", place="x", bench=True)


# --- What ngspice would run or read ---

UNSAFE = {
    "control": CELL + CONTROL,
    "control upper case": CELL + CONTROL.upper(),
    "control mixed case": CELL + ".CoNtRoL\n" + RUNS,
    "control indented": CELL + " \t .control\n" + RUNS,
    "control after end": CELL + ".end\n" + CONTROL,
    "control with CRLF": (CELL + CONTROL).replace("\n", "\r\n"),
    "control after a lone CR": CELL + "* x\r.control\r" + RUNS + "\r.endc",
    "control after a form feed": CELL + "* x\f.control",
    "control after a vertical tab": CELL + "\v.control",
    "control split": ".con\n+trol\n" + RUNS,
    "control split with a blank": ".\n+control\n" + RUNS,
    "control continued": CELL + ".control\n+ " + RUNS,
    "control in a continuation": ".param a=1\n+ .control\n+ " + RUNS,
    "control in a subcircuit": ".subckt a b\n.control\n" + RUNS + "\n.endc\n.ends",
    "control as a name": ".subckt .control a\nr1 a 0 1\n.ends",
    "control behind NUL": CELL + "\0.control\n" + RUNS,
    "control behind a no-break space": CELL + "\u00a0.control\n" + RUNS,
    "control behind a line separator": CELL + "r1 a b 1\u2028.control\n" + RUNS,
    "endc alone": CELL + ".endc",
    "script in line 1": f"*ng_script\n{RUNS}\n",
    "script in line 2": f"* title\n*ng_script\n{RUNS}\n",
    "script in upper case": f"*NG_SCRIPT\n{RUNS}\n",
    "script with blanks": f" * ng_script\n{RUNS}\n",
    "exec": ".exec touch canary",
    "write": ".write out.raw",
    "csparam": ".csparam a={1}",
    "XSPICE device": ".subckt c a\na1 %v([a]) src\n.ends\n.model src filesource (file=\"/etc/passwd\")",
    "file source model": ".model src filesource (amploffset=[0])",
    "file source in upper case": ".MODEL src FILESOURCE (amploffset=[0])",
    "process model": ".model p d_process (process_file=/bin/sh)",
    "digital source model": ".model p d_source (input_file=x)",
    "co-simulation model": ".model p d_cosim (simulation=x.so)",
    "table model": ".model p table2d (file=x)",
    "file parameter": ".model n nmos (level=14 file=x)",
    "file parameter with blanks": ".model n nmos (level=14 input_file = x)",
    "PWL from a file": ".subckt c a\nv1 a 0 pwl file=x\n.ends",
    "PWL from a file in quotes": ".subckt c a\nv1 a 0 pwl(\"x.csv\")\n.ends",
    "outside voltage": ".subckt c a\nv1 a 0 dc 0 external\n.ends",
    "OSDI device": ".subckt c a\nn1 a 0 mod\n.ends",
    "digital device": ".subckt c a\nu1 inv a b\n.ends",
    "double quotes": '.param a="`touch canary`"',
    "backticks": ".param a=`touch canary`",
    "backslash": ".param a=1 \\\\\n.control",
    "dollar": ".param a=$HOME",
    "option source path": ".option sourcepath=/tmp",
    "option editor": ".option editor=sh",
    "option tolerance in a part": ".option reltol=1",
    "unknown card": ".wibble 1 2",
    "include": CELL + ".include other.inc",
    "library": CELL + ".lib other.lib tt",
    "include split": CELL + ".incl\n+ude other.inc",
    "include continued": CELL + ".include\n+ other.inc",
    "not ASCII": ".param größe=1",
    "shell characters": ".param a=1\n!touch canary",
}  # fmt: skip


@pytest.mark.parametrize("text", UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe_text_is_refused(text: str) -> None:
    with pytest.raises(UnsafeError, match=r"^cell\.cir:\d+: ") as caught:
        check_text(text, place="cell.cir")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("text", [text for name, text in UNSAFE.items() if "in a part" not in name])
def test_a_bench_is_guarded_as_well(text: str) -> None:
    with pytest.raises(UnsafeError):
        check_text(text, place="x", bench=True)


def test_the_line_of_the_card_is_told() -> None:
    with pytest.raises(UnsafeError) as caught:
        check_text(CELL + "* comment\n\n.control\n", place="cell.cir")
    assert str(caught.value) == "cell.cir:6: .control runs commands is refused (remove the control block)"


# --- What is wrong, but not unsafe ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (".tran 1p 1n", r"x:1: \.tran does not belong"),
        (CELL + ".meas tran a find v(a) at=1n", r"x:4: \.meas does not belong"),
        (".temp 27", r"\.temp does not belong"),
        ("r1 a b 1k", "x:1: the element 'r1' stands outside a subcircuit"),
        (".if (1)\nr1 a b 1k\n.endif", "x:2: the element 'r1' stands outside a subcircuit"),
        (".subckt a b\nr1 b 0 1", r"x:1: \.subckt is never closed with \.ends"),
        (".subckt a b\n.endif", r"x:2: \.endif without its beginning"),
        (".ends", "without its beginning"),
        ("+ r1 a b", "x:1: a continuation"),
        ("* title\n+ r1 a b", "x:2: a continuation"),
        (CELL + ".end\nr1 a b 1", r"x:5: a card after \.end"),
        (".param a={1", "not closed"),
        (".param a='1", "not closed"),
        (".model n", r"expected \.model NAME TYPE"),
        (".lib tt\n.param a=1\n.endl", "x: expected the name of a library section .it has: tt"),
        (".endl", "closes no section"),
    ],
)
def test_misplaced_cards(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_text(text, place="x")


# --- Files ---


def test_includes_inside_the_folder_are_resolved(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "cell.cir": "* cell\n.inc 'parts/a.inc'\n.include \"b.inc\"\n.lib\n+ models.lib TT\n",
            "parts/a.inc": ".include\n+ c.inc\n.param a=1\n.end\n",
            "parts/c.inc": ".param c=3",
            "b.inc": CELL,
            "models.lib": "* all\n.lib ss\n.param p=1\n.endl ss\n.LIB tt\n.param p=2\n.lib models.lib both\n.endl\n"
            ".lib both\n.param q=4\n.endl both\n",
        },
    )
    assert check_netlist(path) == ".param c=3\n.param a=1\n" + CELL + ".param p=2\n.param q=4\n"
    assert check_netlist(tmp_path / "models.lib", section="ss") == ".param p=1\n"
    with pytest.raises(InputError, match=r"no library section 'ff'.*it has: ss, tt, both"):
        check_netlist(tmp_path / "models.lib", section="ff")
    with pytest.raises(UnsafeError, match="is refused here"):
        check_netlist(path, allow_includes=False)


@pytest.mark.parametrize(
    "line",
    [
        ".include /etc/passwd",
        ".include ../secret.inc",
        ".include 'sub/../../secret.inc'",
        '.INCLUDE "../secret.inc"',
        ".include\n+ ../secret.inc",
        ".inc\n* comment\n+ ../secret.inc",
        ".lib ../secret.inc tt",
        ".include ~/x",
        ".include link.inc",
        ".include linked/secret.inc",
        ".include $HOME/x",
        ".include ..\\secret.inc",
        ".include a.inc b.inc",
        ".include",
        ".include http://x/y",
        ".lib a.inc tt extra",
    ],
)
def test_includes_that_leave_are_refused(tmp_path: Path, line: str) -> None:
    path = write(
        tmp_path, {"cell/cell.cir": CELL + line, "cell/sub/x": "", "cell/a.inc": "", "secret.inc": ".param a=1"}
    )
    (tmp_path / "cell" / "link.inc").symlink_to(tmp_path / "secret.inc")
    (tmp_path / "cell" / "linked").symlink_to(tmp_path)
    with pytest.raises(UnsafeError, match=r"cell\.cir:4: "):
        check_netlist(path)


def test_a_root_above_the_file_allows_its_files(tmp_path: Path) -> None:
    path = write(tmp_path, {"cell/cell.cir": ".include ../common.inc", "common.inc": ".param a=1"})
    assert check_netlist(path, root=tmp_path) == ".param a=1\n"
    (tmp_path / "cell.cir").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeError, match="leads out"):
        check_netlist(tmp_path / "cell.cir")


@pytest.mark.parametrize("text", [CONTROL, ".end\n" + CONTROL, "*ng_script\n", ".include ../x", "a1 b c d"])
def test_danger_in_included_files_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, {"cell.cir": ".include sub/a.inc\n", "sub/a.inc": "* a\n" + text})
    write(tmp_path.parent, {"x": ""})
    with pytest.raises(UnsafeError if text != ".include ../x" else CosimError, match=r"sub/a\.inc:\d"):
        check_netlist(path)


@pytest.mark.parametrize("name", ["tt", "ss"])
def test_danger_in_any_section_is_refused(tmp_path: Path, name: str) -> None:
    library = f".lib ss\n{CONTROL if name == 'ss' else ''}.endl\n.lib tt\n{CONTROL if name == 'tt' else ''}.endl\n"
    path = write(tmp_path, {"cell.cir": ".lib m.lib tt\n", "m.lib": library})
    with pytest.raises(UnsafeError, match=r"m\.lib:\d: \.control"):
        check_netlist(path)


def test_loops_floods_and_missing_files(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.cir": ".include b.cir", "b.cir": ".include a.cir"})
    with pytest.raises(UnsafeError, match=r"b\.cir: includes form a loop|a\.cir: includes form a loop"):
        check_netlist(path)
    chain = {f"{number}.cir": f".include {number + 1}.cir" for number in range(20)}
    with pytest.raises(UnsafeError, match="deeper than 10"):
        check_netlist(write(tmp_path, {**chain, "20.cir": ""}))
    doubling = {f"d{number}": f".include d{number + 1}\n" * 8 for number in range(8)}
    with pytest.raises(UnsafeError, match="more than 200"):
        check_netlist(write(tmp_path, {**doubling, "d8": ".param a=1\n"}))
    with pytest.raises(InputError, match=r"x\.cir:2: the include 'no\.inc'"):
        check_netlist(write(tmp_path, {"x.cir": "* x\n.include no.inc"}))
    with pytest.raises(InputError, match="no such file"):
        check_netlist(tmp_path / "no.cir")
    (tmp_path / "big.cir").write_bytes(b"* \n" * (3 * 2**20))
    with pytest.raises(InputError, match="at most"):
        check_netlist(tmp_path / "big.cir")
    (tmp_path / "latin.cir").write_bytes(b"* \xe9\n")
    with pytest.raises(InputError, match="UTF-8"):
        check_netlist(tmp_path / "latin.cir")


# --- ngspice itself, and any text ---


def test_ngspice_reads_the_written_text_as_the_original(tmp_path: Path) -> None:
    """A continuation after comments and blank lines is one card for ngspice as well."""
    text = "r1 a 0\n* between\n\n+ 1k ; one\nv1 a 0 $ no\n+ 3\n.op\n.print op v(a) i(v1)\n.end\n"
    written = check_text(text.replace(".print op v(a) i(v1)\n", ""), place="x", bench=True)
    currents = []
    for deck in (f"* t\n{text}", f"* t\n{written}.print op v(a) i(v1)\n.end\n"):
        (tmp_path / "deck.cir").write_text(deck)
        done = subprocess.run(
            ["ngspice", "-n", "-b", "deck.cir"],
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        currents.append(re.findall(r"v1#branch\s+(\S+)", done.stdout))
    assert currents[0] == currents[1]
    assert float(currents[0][0]) == pytest.approx(-3e-3)


FRAGMENTS = st.sampled_from(
    [
        ".control", ".CONTROL", ".Con", "trol", " ", "\t", "\n", "\n+", "\n+ ", "\r\n", "\r", "*", "* ", "$ ", "$", ";",
        "//", ".end", ".endc", ".subckt a b", ".ends", "m1 a b c d n", ".model n nmos", "(", ")", "{", "}", "'", '"',
        "*ng_script",
        ".include x", ".lib x tt", ".lib tt", ".endl", ".param a=1", "shell touch canary", "\0", "\f", "\\",
        "\u00a0", "é", "=", ".", "a1", "v1 a 0 1", ".tran 1p 1n", ".if (1)", ".endif", "+", ",",
    ]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(FRAGMENTS, max_size=14).map("".join) | st.text(max_size=40), st.booleans())
def test_any_text_is_refused_or_free_of_commands(text: str, bench: bool) -> None:
    try:
        written = check_text(text, place="x", bench=bench)
    except CosimError as error:
        told = str(error)
    else:
        told = "x"
        _assert_harmless(written)
        assert not re.search(r"(?im)^[ \t]*\.control", re.sub(r"(?m)^[ \t]*\*.*", "", text))
    assert told.startswith("x")


def _assert_harmless(written: str) -> None:
    """Judged anew, without the guard's own code: no command, no include, no script, no comment."""
    assert not re.search(r"(?im)^\s*\*", written)
    joined = written.replace("\n+", " ").lower()
    for line in joined.splitlines():
        assert not re.match(r"\s*\.\s*(control|endc|inc|lib|exec|csparam|end\b)", line)
        assert not re.match(r"\s*[*an]", line)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\"\\`$]|[^\x00-\x7f]", joined)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(UNSAFE)), st.sampled_from(["", "\n", "* x\n", CELL]), st.sampled_from(["", "\n", CELL]))
def test_danger_is_found_anywhere(name: str, before: str, after: str) -> None:
    with pytest.raises(CosimError):
        check_text(before + UNSAFE[name] + "\n" + after, place="x")
