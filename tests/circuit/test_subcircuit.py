from __future__ import annotations

import pytest

from cosim.circuit.subcircuit import parse_subcircuit
from cosim.errors import InputError

TEXT = """* a cell
.param extra=2
.subckt inner a b
r1 a b 1k
.ends
.SUBCKT Cell BL vdd params: W=1u
+ l = {2*30n} dvt='a + b'
M1 BL vdd 0 0 NFET W={w}
+ L={l} $ a comment
* a comment inside
x1 bl vdd inner
.ends
v1 vdd 0 1
.tran 1p 10p
"""


def test_a_subcircuit_is_read_in_lower_case_with_continuations_joined() -> None:
    cell = parse_subcircuit(TEXT, "CELL", place="cell.cir")
    assert cell.ports == ("bl", "vdd")
    assert cell.parameters == {"w": "1u", "l": "{2*30n}", "dvt": "'a + b'"}
    assert cell.elements == ("m1 bl vdd 0 0 nfet w={w} l={l}", "x1 bl vdd inner")
    assert cell.devices == ("m1", "x1")


def test_what_it_may_use_comes_along_and_the_bench_does_not() -> None:
    lines = parse_subcircuit(TEXT, "cell", place="cell.cir").render({"w": 5e-8}, {"nfet": "nch"})
    assert lines[:4] == [".param extra=2", ".subckt inner a b", "r1 a b 1k", ".ends"]
    assert lines[4] == ".subckt cell bl vdd w=5e-08 l={2*30n} dvt='a + b'"
    assert lines[5] == "m1 bl vdd 0 0 nch w={w} l={l}"
    assert not any(line.startswith(("v1", ".tran")) for line in lines)


def test_a_missing_subcircuit_lists_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"cell\.cir: no subcircuit 'sell' \(its subcircuits: cell, inner\)"):
        parse_subcircuit(TEXT, "sell", place="cell.cir")


def test_a_subcircuit_twice_or_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="more than once"):
        parse_subcircuit(TEXT + TEXT, "cell", place="cell.cir")
    with pytest.raises(InputError, match=r"no \.ends"):
        parse_subcircuit(".subckt a x y\nr1 x y 1k\n", "a", place="cell.cir")
