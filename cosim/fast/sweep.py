"""The sweep that measures a bank: cells on common ramps of their bit lines and word lines, as one deck."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from cosim.circuit.column import ColumnBench
from cosim.circuit.column_rows import level_node, supplies
from cosim.circuit.deck import Deck, title_line

STEP_S = 1e-6
"""A step of the sweep: long enough for every storage node to settle."""

TIMEOUT_S = 1800.0
"""Of one deck of a build or check: tens of times what it takes on an idle core, because in its place hours of the full
circuit would run."""

GAIN_OHM = 1e6
"""Volts of a probe an ampere of a line."""

VOLTAGES = 73
"""Points of the bit-line axis."""

OPTIONS = "method=gear reltol=1e-5 abstol=1e-13 vntol=1e-7"

_LOW, _HIGH = -0.03, 1.05
"""Ends of the bit-line axis in units of the supply; word-line coupling lifts a line above the supply."""
_TOP_STEPS, _EDGE_STEPS, _TURN_STEPS = 54, 14, 2


@dataclass(frozen=True, slots=True)
class Drive:
    """What a bank's cells are driven with.

    Args:
        word_line_v: Peak of the word line, in volts.
        levels: Word-line levels in units of the peak that currents are wanted at, rising; the last is 1.
        sum: The line that a cell does not pull falls while the pulled one rises: their sum, in units of the supply.
        lowest: Where the sweep of the pulled line ends, in units of the supply.
    """

    word_line_v: float
    levels: tuple[float, ...]
    sum: float
    lowest: float = _LOW


@dataclass(frozen=True, slots=True)
class Sweep:
    """One pass over bit-line voltage and word-line level: down at the peak, then up and down at lower levels.

    Args:
        corners: Times in steps with the pulled line's voltage and the level there; linear between.
        reads: First and last step of each level's ramp, from the peak downwards.
        levels: How many levels the currents are given at.
        sum_v: Of the two lines' voltages.
        vdd_v: Supply, in volts.
    """

    corners: tuple[tuple[int, float, float], ...]
    reads: tuple[tuple[int, int], ...]
    levels: int
    sum_v: float
    vdd_v: float

    @property
    def times_s(self) -> tuple[float, ...]:
        """When the currents are read."""
        return tuple(STEP_S * step for first, last in self.reads for step in range(first, last + 1))

    def other(self, pulled_v: float) -> float:
        """The voltage of the line that is not pulled."""
        return min(self.sum_v - pulled_v, _HIGH * self.vdd_v)

    def curves(
        self, currents: Float[np.ndarray, "sample time"], pulled: bool
    ) -> Float[np.ndarray, "sample level voltage"]:
        """Currents along the sweep, on the common axes."""
        found: list[np.ndarray] = []
        start = 0
        for first, last in self.reads:
            steps = np.arange(first, last + 1)
            line_v = np.interp(steps, [c[0] for c in self.corners], [c[1] for c in self.corners])
            if not pulled:
                line_v = np.array([self.other(voltage) for voltage in line_v])
            along = currents[:, start : start + steps.size]
            start += steps.size
            line_v, unique = np.unique(line_v.round(9), return_index=True)
            found.append(_on_axis(line_v, along[:, unique], voltage_axis(self.vdd_v)))
        # Without a driven word line there is one ramp, and it holds for every level.
        return np.stack((found * self.levels)[: self.levels][::-1], axis=1)


def _on_axis(
    line_v: Float[np.ndarray, " step"],
    currents: Float[np.ndarray, "sample step"],
    grid_v: Float[np.ndarray, " voltage"],
) -> Float[np.ndarray, "sample voltage"]:
    """Currents at the axis's voltages; straight on beyond the ends of the sweep."""
    spline = CubicSpline(line_v, currents, axis=1)
    inside_v = np.clip(grid_v, line_v[0], line_v[-1])
    return spline(inside_v) + spline(inside_v, 1) * (grid_v - inside_v)


def voltage_axis(vdd_v: float) -> Float[np.ndarray, " voltage"]:
    """The bit-line axis, in volts."""
    return np.linspace(_LOW, _HIGH, VOLTAGES) * vdd_v


def plan_sweep(vdd_v: float, drive: Drive, *, driven: bool) -> Sweep:
    """The sweep of one state; one ramp is enough where no word line is driven."""
    high, low = _HIGH * vdd_v, drive.lowest * vdd_v
    corners: list[tuple[int, float, float]] = [(0, high, 1.0)]
    reads: list[tuple[int, int]] = []
    for index, level in enumerate(drive.levels[::-1] if driven else drive.levels[-1:]):
        start = corners[-1][0] + _TURN_STEPS
        here = corners[-1][1]
        stop = start + (_EDGE_STEPS if index else _TOP_STEPS)
        corners += [(start, here, level), (stop, low if here == high else high, level)]
        reads.append((start, stop))
    return Sweep(tuple(corners), tuple(reads), len(drive.levels), drive.sum * vdd_v, vdd_v)


def pulled_line(bench: ColumnBench, product: int) -> int:
    """The line that a row of this product pulls down; the first for a row that is off, or where there is but one."""
    return int(product > 0 and len(bench.cell.ports.bit_lines) == 2)


def sweep_deck(
    bench: ColumnBench,
    drive: Drive,
    state: tuple[int, int],
    shift_v: Float[np.ndarray, "sample device"],
    sweep: Sweep,
) -> Deck:
    """All cells of one state on common ramps, each with a sense source a line; probes sense0, sense1, storage."""
    cell, process, vdd_v = bench.cell, bench.process, bench.corner.vdd_v
    probes = [f"{name}_{i}" for name in ("sense0", "sense1", *cell.ports.storage) for i in range(len(shift_v))]
    first = sweep.corners[0][1]
    lines_v = [first, sweep.other(first)] if pulled_line(bench, state[0]) == 0 else [sweep.other(first), first]
    initial = {"vdd": vdd_v, "line0": lines_v[0], "line1": lines_v[1]}
    initial |= {f"line{k}_{i}": lines_v[k] for i in range(len(shift_v)) for k in (0, 1)}
    for node, level in cell.weight[state[1]].items():
        initial |= {f"{node}_{i}": level * vdd_v for i in range(len(shift_v))}
    text = [
        title_line(f"bank of {cell.name}: product {state[0]}, weight {state[1]}, {bench.corner}"),
        f".option temp={bench.corner.temp_c:.9g} {OPTIONS}",
        process.corner_text(bench.corner.process).strip(),
        *cell.subcircuit.render(cell.parameters, process.model_names),
        *supplies(bench),
        *_ramps(bench, drive, state, sweep),
        *(line for i, shifts in enumerate(shift_v) for line in _cell(bench, i, shifts)),
        *(f".ic v({node})={level:.9g}" for node, level in initial.items()),
        *(f".save v({probe})" for probe in probes),
        f".tran {STEP_S:g} {sweep.times_s[-1]:.9g} 0 {STEP_S:g} uic",
        ".end",
    ]
    return Deck("\n".join(text) + "\n", tuple(probes), sweep.times_s)


def _ramps(bench: ColumnBench, drive: Drive, state: tuple[int, int], sweep: Sweep) -> list[str]:
    """The two bit lines and the word lines as piecewise linear sources."""
    pulled = [(step, voltage) for step, voltage, _ in sweep.corners]
    kinks = [step for (a, va, _), (b, vb, _) in pairwise(sweep.corners) for step in _kinks(sweep, a, va, b, vb)]
    steps = sorted({*(float(step) for step, _ in pulled), *kinks})
    down = np.interp(steps, [step for step, _ in pulled], [voltage for _, voltage in pulled])
    both = [[(s, float(v)) for s, v in zip(steps, down, strict=True)]]
    both.append([(s, sweep.other(v)) for s, v in both[0]])
    if pulled_line(bench, state[0]) == 1:
        both.reverse()
    lines = [f"vline{k} line{k} 0 pwl({_pwl(points)})" for k, points in enumerate(both)]
    for name, level in bench.cell.drive[state[0] * state[1]].items():
        points = [(float(step), share * level * drive.word_line_v) for step, _, share in sweep.corners]
        lines.append(f"vword_{name} word_{name} 0 pwl({_pwl(points)})")
    return lines


def _kinks(sweep: Sweep, start: int, start_v: float, stop: int, stop_v: float) -> list[float]:
    """Where the line that is not pulled meets its highest voltage, between two corners."""
    turn = sweep.sum_v - _HIGH * sweep.vdd_v
    if not min(start_v, stop_v) < turn < max(start_v, stop_v):
        return []
    return [start + (stop - start) * (turn - start_v) / (stop_v - start_v)]


def _pwl(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{STEP_S * step:.9g} {voltage:.9g}" for step, voltage in points)


def _cell(bench: ColumnBench, index: int, shifts: Float[np.ndarray, " device"]) -> list[str]:
    """One cell with a sense source and a current-controlled voltage source for each bit line."""
    cell = bench.cell
    nodes = {name: f"line{k}_{index}" for k, name in enumerate(cell.ports.bit_lines)}
    nodes |= {name: f"{name}_{index}" for name in cell.ports.storage}
    nodes |= {name: f"word_{name}" for name in cell.ports.word_lines}
    nodes |= {name: level_node(name, level) for name, level in cell.ports.held.items()}
    nodes |= {cell.ports.supply: "vdd", cell.ports.ground: "0"}
    shift = [f"{device.delvto}={value:.9g}" for device, value in zip(cell.devices, shifts, strict=True)]
    lines = [" ".join([f"x{index}", *(nodes[port] for port in cell.subcircuit.ports), cell.subcircuit.name, *shift])]
    for k in (0, 1):
        lines.append(f"vsense{k}_{index} line{k}_{index} line{k} 0")
        lines.append(f"hsense{k}_{index} sense{k}_{index} 0 vsense{k}_{index} {GAIN_OHM:g}")
    return lines
