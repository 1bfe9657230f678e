"""Each wrong TOML key or value is one line with its file, line and column, what was expected and what came."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cosim.config import load_toml, parse_toml
from cosim.errors import CosimError, InputError
from cosim.toml_places import key_places

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Device:
    width_m: Positive
    type: Literal["nfet", "pfet"] = "nfet"


@dataclass(frozen=True, slots=True)
class Sweep:
    kind: Literal["sweep"]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Points:
    kind: Literal["list"]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    title: str
    device: Device
    rows: Annotated[int, Field(ge=1, le=1024)] = 64
    devices: dict[str, Device] = field(default_factory=dict)
    steps: tuple[Device, ...] = ()
    vdd_v: float | tuple[float, float] = 1.0
    points: Annotated[Sweep | Points, Field(discriminator="kind")] | None = None
    bypass: bool = False


GOOD = """
title = "quick"
vdd_v = [0.9, 1]
points = { kind = "list", counts = [0, 32, 64] }

[device]
width_m = 1e-6

[devices.up]
width_m = 2
type = "pfet"

[[steps]]
width_m = 1
[[steps]]
width_m = 2
"""


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_toml(text, Recipe, place="r.toml")
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_nested_types_are_built() -> None:
    recipe = parse_toml(GOOD, Recipe, place="r.toml")
    assert recipe == Recipe(
        title="quick",
        device=Device(1e-6),
        devices={"up": Device(2.0, "pfet")},
        steps=(Device(1.0), Device(2.0)),
        vdd_v=(0.9, 1.0),
        points=Points("list", (0, 32, 64)),
    )


DEVICE = "[device]\nwidth_m = 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"title = 'a'\nrow = 3\n{DEVICE}", "r.toml:2:1: unknown key 'row' (did you mean 'rows'?)"),
        (
            "title = 'a'\n[device]\nwidth_m = -1",
            "r.toml:3:1: 'device.width_m': expected a number greater than 0, got -1",
        ),
        (
            "title = 'a'\n[device]\nwidth = 1",
            "r.toml:3:1: unknown key 'device.width', and 1 more (did you mean 'width_m'?)",
        ),
        ("title = 'a'\n[device]\ntype = 'nfet'", "r.toml:2:2: the key 'device.width_m' is missing"),
        (f"rows = 3\n{DEVICE}", "r.toml:1:1: the key 'title' is missing"),
        (
            "title = 'a'\n[device]\nwidth_m = 1\ntype='nfte'",
            "r.toml:4:1: 'device.type': expected 'nfet' or 'pfet', got 'nfte' (did you mean 'nfet'?)",
        ),
        (
            f"title = 'a'\ndevices = {{ x = {{ width_m = 1 }}, y = {{ width_m = 'a' }} }}\n{DEVICE}",
            "r.toml:2:40: 'devices.y.width_m': expected a number, got 'a'",
        ),
        (
            f"title = 'a'\n{DEVICE}[[steps]]\nwidth_m = 1\n[[steps]]\nwidth_m = 1\nq = 1",
            "r.toml:8:1: unknown key 'steps[2].q' (known keys: width_m, type)",
        ),
        (f"title = 'a'\nvdd_v = [1, 'b']\n{DEVICE}", "r.toml:2:13: 'vdd_v[2]': expected a number, got 'b'"),
        (f"title = 'a'\nvdd_v = true\n{DEVICE}", "r.toml:2:1: 'vdd_v': expected a number or a list, got true"),
        (f"title = 'a'\nvdd_v = nan\n{DEVICE}", "r.toml:2:1: 'vdd_v': expected a finite number or a list, got nan"),
        (f"title = 'a'\nrows = 64.0\n{DEVICE}", "r.toml:2:1: 'rows': expected a whole number, got 64.0"),
        (f"title = 'a'\nrows = '64'\n{DEVICE}", "r.toml:2:1: 'rows': expected a whole number, got '64'"),
        (f"title = 'a'\nrows = 0\n{DEVICE}", "r.toml:2:1: 'rows': expected a number of at least 1, got 0"),
        (f"title = 'a'\nrows = 2000\n{DEVICE}", "r.toml:2:1: 'rows': expected a number of at most 1024, got 2000"),
        (
            "title = 'a'\ndevice = { type = 'nfet', 'é' = 1, width_m = 0 }",
            "r.toml:2:27: unknown key 'device.é', and 1 more (known keys: width_m, type)",
        ),
        (
            "title = 'a'\ndevices = { 'é' = { width_m = 0 } }\n" + DEVICE,
            "r.toml:2:21: 'devices.é.width_m': expected a number greater than 0, got 0",
        ),
        (f"title = 3\n{DEVICE}", "r.toml:1:1: 'title': expected a string, got 3"),
        (f"title = 'a'\nbypass = 1\n{DEVICE}", "r.toml:2:1: 'bypass': expected true or false, got 1"),
        ("title = 'a'\ndevice = [1]", "r.toml:2:1: 'device': expected a table, got a list of 1"),
        (
            f"title = 'a'\npoints = {{ kind = 'list', count = [1] }}\n{DEVICE}",
            "r.toml:2:27: unknown key 'points.count', and 1 more (did you mean 'counts'?)",
        ),
        (
            f"title = 'a'\npoints = {{ kind = 'lst' }}\n{DEVICE}",
            "r.toml:2:1: 'points': expected 'kind' to be one of 'sweep', 'list', got a table",
        ),
        ("title = 'é'; x", "r.toml:1:12: not valid TOML: Expected newline or end of document after a statement"),
        ('title = "a\n', "r.toml:1:11: not valid TOML: Illegal character '\\n'"),
        ("title = '''a\n\n", "r.toml:3: not valid TOML: Expected \"'''\""),
        (f"title = 'a'\ntitle = 'b'\n{DEVICE}", "r.toml:2:12: not valid TOML: Cannot overwrite a value"),
        ("title = 'a'\n'µ é' = 1\n" + DEVICE, "r.toml:2:1: unknown key 'µ é' (known keys: "),
        ("a.b.c = 1\ntitle = 'a'\n" + DEVICE, "r.toml:1:1: unknown key 'a' (known keys: "),
    ],
)
def test_one_line_says_what_is_wrong(text: str, message: str) -> None:
    told = refused(text)
    assert told.startswith(message) if message.endswith(" ") else told == message


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "rows = 0x" + "9" * 5000, "a = 1\0"])
def test_strange_input_is_refused(text: str) -> None:
    assert refused(text).startswith("r.toml")


def test_errors_of_our_own_checks_get_the_file() -> None:
    told = "r.toml: expected low below high"
    with pytest.raises(InputError) as caught:
        parse_toml("low = 2\nhigh = 1", Range, place="r.toml")
    assert str(caught.value) == told


def test_value_errors_of_a_dataclass_get_their_place() -> None:
    with pytest.raises(InputError) as caught:
        parse_toml("[range]\nlow = 2\nhigh = 1", Ranged, place="r.toml")
    assert str(caught.value) == "r.toml:1:2: 'range': low is above high"


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise InputError("expected low below high")


@dataclass(frozen=True, slots=True)
class Checked:
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


@dataclass(frozen=True, slots=True)
class Ranged:
    range: Checked


# --- Files ---


def test_files_are_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_toml(path, Recipe).title == "quick"
    path.write_text("title = 3\r\n" + DEVICE, newline="")
    with pytest.raises(InputError, match=rf"^{path}:1:1: 'title'"):
        load_toml(path, Recipe)


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "big.toml").write_bytes(b"#" * (2**20 + 1))
    (tmp_path / "latin.toml").write_bytes(b"a = 1\nb = '\xe9'\n")
    os.mkfifo(tmp_path / "pipe.toml")
    expected = {
        "big.toml": "at most 1048576 bytes",
        "latin.toml": "latin.toml:2: expected UTF-8 text, got byte 0xe9",
        "pipe.toml": "got a folder or a device",
        ".": "got a folder or a device",
        "missing.toml": "no such file",
    }
    for name, words in expected.items():
        with pytest.raises(InputError, match=words):
            load_toml(tmp_path / name, Recipe)


# --- Places ---


def test_places_of_keys() -> None:
    text = "a.b = 1\n'q\\u0041' = {c = 1, d = [ {e = 1}, # x\n 2 ]}\n[t.u]\nv = 1\n[[w]]\nx = 1\n[[w]]\n[w.y]\nz = 1\n"
    places = key_places(text)
    assert places["a", "b"] == (1, 3)
    assert places["q\\u0041", "c"] == (2, 14)
    assert places["q\\u0041", "d", 0, "e"] == (2, 28)
    assert places["q\\u0041", "d", 1] == (3, 2)
    assert places["t", "u", "v"] == (5, 1)
    assert places["w", 0, "x"] == (7, 1)
    assert places["w", 1, "y", "z"] == (10, 1)


@given(st.text(max_size=60) | st.from_regex(r"(\[{0,2}[a-c.'\"= {}\[\]0-9,#\n]{0,12}\n?){0,6}", fullmatch=True))
def test_any_text_gives_a_recipe_or_one_clear_error(text: str) -> None:
    told = _refusal(text)
    assert told is None or (told.startswith("r.toml") and "\n" not in told)


def _refusal(text: str) -> str | None:
    try:
        parse_toml(text, Recipe, place="r.toml")
    except CosimError as error:
        return str(error)
    return None
