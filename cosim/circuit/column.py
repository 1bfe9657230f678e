"""A column of cells on two pre-charged bit lines: its test bench as a deck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int8

from cosim.circuit.cell import Cell
from cosim.circuit.corner import Corner
from cosim.circuit.deck import Deck
from cosim.circuit.process import Process
from cosim.circuit.sources import edge_pulse, time_marks
from cosim.errors import InputError

START_S = 10e-12
"""When the word line begins to rise."""

_EDGE_MARKS = (0.0, 0.4, 0.7, 1.0)
"""Word-line levels that get a time step, in units of the peak: the current is most curved in the upper half."""


@dataclass(frozen=True, slots=True)
class ColumnBench:
    """One column of one sub-array, read once.

    Args:
        cell: The bitcell.
        process: Its process.
        corner: Process corner, supply and temperature.
        rows: Rows of the column, at least 1.
        word_line_v: Word-line voltage of a selected row, in volts.
        pulse_s: Word-line pulse between the half-way points of its edges, in seconds; at least one edge.
        c_bit_line_f: Capacitance on each bit line beside the transistors' own, in farads.
        time_step_s: The longest time step, in seconds.
        bypass: Whether ngspice may skip transistors whose voltages hardly changed.

    Raises:
        InputError: A value is out of its range.
    """

    cell: Cell
    process: Process
    corner: Corner
    rows: int
    word_line_v: float
    pulse_s: float
    c_bit_line_f: float
    time_step_s: float = 20e-12
    bypass: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of their range."""
        for name in ("rows", "word_line_v", "pulse_s", "c_bit_line_f"):
            _check_range(self, name, float(getattr(self, name)))
        _check_range(self, "vdd_v", self.corner.vdd_v)
        if not 0 < self.time_step_s <= self.pulse_s:
            raise InputError(f"time_step_s must be positive and at most the pulse, got {self.time_step_s:g}")
        if self.pulse_s < self.cell.defaults.edge_s:
            raise InputError(f"pulse_s must be at least one edge, {self.cell.defaults.edge_s:g} s")

    @property
    def sense_time_s(self) -> float:
        """When the bit lines are read: after the falling edge and the cell's settling time, in seconds."""
        timing = self.cell.defaults
        return START_S + self.pulse_s + timing.edge_s + timing.settle_s


def column_bench(cell: Cell, process: Process, corner: Corner | None = None, **changes: Any) -> ColumnBench:
    """A bench with the cell's defaults for everything that is not given.

    Args:
        cell: The bitcell.
        process: Its process.
        corner: tt, the cell's supply and 27 C where it is not given.
        changes: Fields of ColumnBench.

    Raises:
        InputError: A value is out of its range.
    """
    defaults = cell.defaults
    fields: dict[str, Any] = {
        "rows": defaults.rows,
        "word_line_v": defaults.word_line_v,
        "pulse_s": defaults.pulse_s,
        "c_bit_line_f": defaults.c_bit_line_f,
    }
    return ColumnBench(cell, process, corner or Corner("tt", defaults.vdd_v, 27.0), **(fields | changes))


def column_deck(
    bench: ColumnBench,
    products: Int8[np.ndarray, "row"],
    weights: Int8[np.ndarray, "row"],
    vth_shift_v: Float[np.ndarray, "row device"],
) -> Deck:
    """The deck of one read of one column.

    Product -1 discharges the first bit line, +1 the second, and a row of product 0 is off. The input of a row
    is product times weight, so the weights say through which word line a row pulls.

    Args:
        bench: The column.
        products: Weight times input of each row: -1, 0 or +1.
        weights: What each row stores: -1 or +1.
        vth_shift_v: Threshold shift of each transistor with mismatch, in volts, in the order of cell.devices;
            added to the card's VTH0, so a positive one weakens an nfet and strengthens a pfet.

    Returns:
        A deck with the probes bl, blb (the contract's names) and every row's storage nodes (q_0, qb_0, q_1,
        ...), read once at bench.sense_time_s.

    Raises:
        InputError: An array has the wrong shape or values, or the process lacks the corner.
    """
    _check_arrays(bench, products, weights, vth_shift_v)
    inputs = _inputs(bench, products, weights)
    rows = [_row(bench, i, int(inputs[i]), vth_shift_v[i]) for i in range(bench.rows)]
    probes = (*bench.cell.ports.bit_lines, *_storage_nodes(bench))
    lines = [
        f"* {bench.cell.name}: one read of {bench.rows} rows, {bench.corner}",
        *_options(bench),
        bench.process.corner_text(bench.corner.process).strip(),
        *bench.cell.subcircuit.render(bench.cell.parameters, bench.process.model_names),
        *_sources(bench),
        *rows,
        *_initial(bench, weights),
        *(f".save v({node})" for node in probes),
        f".tran {bench.time_step_s:.9g} {bench.sense_time_s:.9g} 0 {bench.time_step_s:.9g} uic",
        ".end",
    ]
    return Deck("\n".join(lines) + "\n", probes, (bench.sense_time_s,))


def flipped_rows(
    bench: ColumnBench, weights: Int8[np.ndarray, "row"], values: Float[np.ndarray, "probe time"]
) -> Bool[np.ndarray, "row"]:
    """Which rows lost what they stored: a storage node is on the wrong side of half the supply at the read.

    Args:
        bench: The column.
        weights: What each row stored.
        values: What column_deck's deck measured.
    """
    ports = bench.cell.ports
    read = values[len(ports.bit_lines) :, -1].reshape(bench.rows, len(ports.storage))
    high = np.array([[bench.cell.weight[int(w)][node] > 0.5 for node in ports.storage] for w in weights])
    return np.any((read > bench.corner.vdd_v / 2) != high, axis=1)


def _check_range(bench: ColumnBench, name: str, value: float) -> None:
    span = getattr(bench.cell.ranges, name)
    if value <= 0 or (span is not None and not span[0] <= value <= span[1]):
        expected = f"{span[0]:g}..{span[1]:g}" if span else "a positive value"
        raise InputError(f"{name}: expected {expected}, got {value:g}", hint=f"the range in {bench.cell.path}")


def _check_arrays(bench: ColumnBench, products: np.ndarray, weights: np.ndarray, vth_shift_v: np.ndarray) -> None:
    shape = (bench.rows, len(bench.cell.devices))
    if products.shape != shape[:1] or weights.shape != shape[:1] or vth_shift_v.shape != shape:
        came = f"{products.shape}, {weights.shape} and {vth_shift_v.shape}"
        raise InputError(f"expected products and weights of {shape[:1]}, shifts of {shape}, got {came}")
    if not np.isin(products, (-1, 0, 1)).all() or not np.isin(weights, (-1, 1)).all():
        raise InputError("products must be -1, 0 or +1 and weights -1 or +1")
    if not np.isfinite(vth_shift_v).all():
        raise InputError("threshold shifts must be finite")


def _inputs(bench: ColumnBench, products: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each row's input, product times weight; the cell must have a drive for it."""
    inputs = products.astype(np.int64) * weights
    impossible = ~np.isin(inputs, list(bench.cell.drive))
    if impossible.any():
        row = int(np.argmax(impossible))
        message = f"row {row}: product {products[row]:+d} with weight {weights[row]:+d} needs input {inputs[row]:+d}"
        known = ", ".join(f"{value:+d}" if value else "0" for value in bench.cell.drive)
        raise InputError(f"{message}, which {bench.cell.name!r} has no drive for", hint=f"its inputs: {known}")
    return inputs


def _options(bench: ColumnBench) -> list[str]:
    """Temperature, method and tolerances.

    Trapezoid: Gear's damping costs millivolts. The steps decide the error, not the tolerances: reltol 1e-2 and
    1e-3 differed by 0.001 mV on average at the same steps. The table of step and bypass against error is in
    netlists/bitcells/xnor_8t/README.md.
    """
    return [
        f".option temp={bench.corner.temp_c:.9g} method=trap reltol=1e-3 abstol=1e-9 vntol=1e-5 chgtol=1e-16",
        f".option bypass={int(bench.bypass)}",
    ]


def _sources(bench: ColumnBench) -> list[str]:
    edge_s = bench.cell.defaults.edge_s
    rising = [START_S + mark * edge_s for mark in _EDGE_MARKS]
    falling = [START_S + bench.pulse_s + (1 - mark) * edge_s for mark in reversed(_EDGE_MARKS)]
    return [
        f"vdd vdd 0 {bench.corner.vdd_v:.9g}",
        *(
            edge_pulse(f"v{node}", node, level * bench.word_line_v, START_S, edge_s, bench.pulse_s)
            for node, level in _word_nodes(bench).items()
        ),
        *time_marks([*rising, *falling]),
        *(f"c{line} {line} 0 {bench.c_bit_line_f:.9g}" for line in bench.cell.ports.bit_lines),
    ]


def _row(bench: ColumnBench, row: int, input_: int, shifts: np.ndarray) -> str:
    """One cell: its nodes in the subcircuit's order, and its threshold shifts."""
    cell, drive = bench.cell, bench.cell.drive[input_]
    nodes = {name: name for name in cell.ports.bit_lines}
    nodes |= {name: f"{name}_{row}" for name in cell.ports.storage}
    nodes |= {name: _word_node(bench, drive[name]) for name in cell.ports.word_lines}
    nodes |= {cell.ports.supply: "vdd", cell.ports.ground: "0"}
    shift = [f"{device.delvto}={value:.9g}" for device, value in zip(cell.devices, shifts, strict=True) if value]
    return " ".join([f"x{row}", *(nodes[port] for port in cell.subcircuit.ports), cell.subcircuit.name, *shift])


def _word_nodes(bench: ColumnBench) -> dict[str, float]:
    """The driven word-line nodes and their levels in units of the word-line voltage."""
    levels = {level for drive in bench.cell.drive.values() for level in drive.values() if level}
    return {_word_node(bench, level): level for level in sorted(levels)}


def _word_node(bench: ColumnBench, level: float) -> str:
    levels = sorted({v for drive in bench.cell.drive.values() for v in drive.values() if v})
    return f"drive_{levels.index(level)}" if level else "0"


def _storage_nodes(bench: ColumnBench) -> list[str]:
    return [f"{name}_{row}" for row in range(bench.rows) for name in bench.cell.ports.storage]


def _initial(bench: ColumnBench, weights: np.ndarray) -> list[str]:
    """Every node's voltage at time 0, so that no operating point has to be found."""
    vdd_v, cell = bench.corner.vdd_v, bench.cell
    levels = {"vdd": vdd_v} | {name: cell.precharge[name] * vdd_v for name in cell.ports.bit_lines}
    levels |= dict.fromkeys(_word_nodes(bench), 0.0)
    for row, weight in enumerate(weights):
        levels |= {f"{name}_{row}": level * vdd_v for name, level in cell.weight[int(weight)].items()}
    return [f".ic v({node})={level:.9g}" for node, level in levels.items()]
