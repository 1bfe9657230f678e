"""Decks for the engines' tests: good, slow, and wrong in each way that an engine must tell apart."""

from __future__ import annotations

import numpy as np

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.cell import load_cell
from cosim.circuit.column import column_bench, column_deck
from cosim.circuit.comparator import comparator_bench, comparator_deck
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process

RC = """* an RC of 1 ns, charging to 1 V
v1 in 0 1
r1 in out 1k
c1 out 0 1p
.ic v(in)=1 v(out)=0
.save v(in) v(out)
.option reltol=1e-6 method=trap
.tran 2p 5n 0 2p uic
.end
"""


def rc(times_s: tuple[float, ...] = (1e-9, 2e-9)) -> Deck:
    return Deck(RC, ("out", "in"), times_s)


def slow(points: int = 300_000) -> Deck:
    """An RC that takes about a microsecond of computing a point."""
    text = f"* slow\nv1 in 0 1\nr1 in out 1k\nc1 out 0 1p\n.save v(out)\n.tran 1p {points}p 0 1p uic\n.end\n"
    return Deck(text, ("out",), (points * 1e-12,))


def endless() -> Deck:
    """Hours of computing at a second of simulated time in picoseconds."""
    return Deck(slow().text.replace(".tran 1p 300000p", ".tran 1p 1"), ("out",), (1.0,))


def column() -> Deck:
    """Eight rows of the 8T XNOR cell with mismatch."""
    cell, process = load_cell("xnor_8t"), load_process("generic65")
    generator = np.random.default_rng(5)
    sigmas = cell.vth_sigmas(process)
    products = np.array([-1, -1, -1, 1, 1, 1, 1, 0], np.int8)
    weights = np.array([1, -1, 1, -1, 1, -1, 1, -1], np.int8)
    shift_v = generator.standard_normal((8, sigmas.size)) * sigmas
    return column_deck(column_bench(cell, process, rows=8), products, weights, shift_v)


def comparator() -> Deck:
    amplifier, process = load_amplifier("strongarm"), load_process("generic65")
    sigmas = amplifier.vth_sigmas(process)
    bench = comparator_bench(amplifier, process, common_mode_v=0.8)
    return comparator_deck(bench, 0.05, np.random.default_rng(6).standard_normal(sigmas.size) * sigmas)


def unknown_model() -> Deck:
    return Deck("* a card is missing\nv1 a 0 1\nm1 a a 0 0 nocard\n.tran 5p 5n\n.end\n", ("a",), (1e-9,))


def diverging() -> Deck:
    """A cell whose current law nothing can solve: ngspice gives up with "timestep too small"."""
    text = """* no solution
v1 a 0 pulse(0 1 1n 1p 1p 1 2)
b1 0 x i=v(x)>0.5?1e30*(v(x)-0.2):-1e30*(v(x)-0.7)
r1 a x 1
c1 x 0 1e-15
.save v(x)
.option itl4=3
.tran 5p 5n uic
.end
"""
    return Deck(text, ("x",), (4e-9,))


def too_short() -> Deck:
    return Deck(RC.replace(".tran 2p 5n", ".tran 2p 0.5n"), ("out",), (1e-9,))


def no_transient() -> Deck:
    return Deck(RC.replace(".tran 2p 5n 0 2p uic\n", ""), ("out",), (1e-9,))
