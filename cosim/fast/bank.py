"""The bank: the static bit-line currents of a few hundred cells under mismatch, measured in ngspice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import CubicSpline
from scipy.stats import norm, qmc

from cosim.circuit.column import ColumnBench
from cosim.circuit.deck import Deck, title_line
from cosim.errors import MeasuredWorseError
from cosim.spice.engine import Engine, Failed

STATES = ((-1, -1), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 1))
"""(product, weight) of a row, in the order of every `state` axis: index = 2 (product + 1) + (weight > 0)."""

SPREAD = 1.4
"""Standard deviation of the bank's threshold shifts in units of the process's: it must cover the tails."""

CELLS = 240
"""Cells of the bank in each state."""

LEVELS = (0.0, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Word-line levels in units of the peak, in the order of every `level` axis."""

VOLTAGES = 61
"""Points of the bit-line axis."""

_LOW, _HIGH = 0.05, 1.05
"""Ends of the bit-line sweep in units of the supply; word-line coupling lifts a line above the supply."""
_SUM = 1.2
"""The line that a cell does not pull falls while the pulled one rises: their sum, in units of the supply."""
_STEP_S = 1e-6
_TOP_STEPS, _EDGE_STEPS, _TURN_STEPS = 50, 14, 2
_GAIN_OHM = 1e6
_MAX_FLIPPED = 0.25
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Bank:
    """Static currents of the cells into their bit lines, and the shifts that made them.

    Args:
        shift_v: Threshold shift of each device, in volts.
        current_a: Current out of a bit line into the cell, in amperes.
        level: Word-line levels in units of the peak, rising.
        voltage_v: Bit-line voltages, rising, in volts.
        settled: Whether the cell kept what it stored in the whole sweep; the others are left out of every fit.
        possible: Whether the cell has a drive for the state; the others have no currents.
    """

    shift_v: Float[np.ndarray, "state sample device"]
    current_a: Float[np.ndarray, "state line sample level voltage"]
    level: Float[np.ndarray, " level"]
    voltage_v: Float[np.ndarray, " voltage"]
    settled: Bool[np.ndarray, "state sample"]
    possible: Bool[np.ndarray, " state"]


def measure_bank(bench: ColumnBench, engine: Engine, *, seed: int, cells: int = CELLS) -> Bank:
    """Simulate `cells` cells in each of the six states, one deck a state; some seconds.

    Every cell has its own sense sources, and storage nodes that settle: the bit lines are swept over microseconds.

    Raises:
        MeasuredWorseError: ngspice gave no currents, or more than a quarter of a state's cells flipped.
    """
    shift_v = _draws(bench, seed, cells)
    possible = np.array([product * weight in bench.cell.drive for product, weight in STATES])
    current_a = np.zeros((len(STATES), 2, cells, len(LEVELS), VOLTAGES))
    settled = np.ones((len(STATES), cells), bool)
    for state in np.flatnonzero(possible):
        current_a[state], settled[state] = _measure(bench, engine, STATES[state], shift_v[state])
        lost = 1 - settled[state].mean()
        if lost > _MAX_FLIPPED:
            message = f"{100 * lost:.0f} % of the bank's cells flipped at {bench.corner}, {bench.word_line_v:g} V"
            raise MeasuredWorseError(message, hint="a lower word_line_v")
    return Bank(shift_v, current_a, np.array(LEVELS), _grid_v(bench.corner.vdd_v), settled, possible)


def _measure(
    bench: ColumnBench, engine: Engine, state: tuple[int, int], shift_v: Float[np.ndarray, "sample device"]
) -> tuple[Float[np.ndarray, "line sample level voltage"], Bool[np.ndarray, " sample"]]:
    """Currents of one state's cells, and whether each kept what it stored."""
    product, weight = state
    storage = bench.cell.ports.storage
    sweep = _sweep(bench, driven=any(bench.cell.drive[product * weight].values()))
    (result,) = engine.run([_deck(bench, state, shift_v, sweep)], timeout_s=_TIMEOUT_S)
    if isinstance(result, Failed):
        raise MeasuredWorseError(f"no currents of {bench.cell.name} at {bench.corner}: {result.detail}")
    values = result.values.reshape(2 + len(storage), len(shift_v), -1)
    high = np.array([bench.cell.weight[weight][node] > 0.5 for node in storage])
    settled = ((values[2:] > bench.corner.vdd_v / 2) == high[:, None, None]).all(axis=(0, 2))
    current_a = [sweep.curves(-values[line] / _GAIN_OHM, _pulled(product) == line) for line in (0, 1)]
    return np.array(current_a), settled


def _pulled(product: int) -> int:
    """The line that a row of this product pulls down; the first for a row that is off."""
    return int(product > 0)


def _draws(bench: ColumnBench, seed: int, cells: int) -> Float[np.ndarray, "state sample device"]:
    """Shifts of every cell: one scrambled Sobol sequence a state."""
    sigmas = bench.cell.vth_sigmas(bench.process)
    size = 1 << (cells - 1).bit_length()
    shifts: list[np.ndarray] = []
    for state in range(len(STATES)):
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(state,))))
        uniform = qmc.Sobol(sigmas.size, rng=generator).random(size)[:cells]
        shifts.append(SPREAD * sigmas * norm.ppf(np.clip(uniform, 1e-6, 1 - 1e-6)))
    return np.array(shifts)


@dataclass(frozen=True, slots=True)
class _Sweep:
    """One pass over bit-line voltage and word-line level: down at the peak, then up and down at lower levels.

    Args:
        corners: Times in steps with the pulled line's voltage and the level there; linear between.
        reads: First and last step of each level's ramp, from the peak downwards.
        vdd_v: Supply, in volts.
    """

    corners: tuple[tuple[int, float, float], ...]
    reads: tuple[tuple[int, int], ...]
    vdd_v: float

    @property
    def times_s(self) -> tuple[float, ...]:
        """When the currents are read."""
        return tuple(_STEP_S * step for first, last in self.reads for step in range(first, last + 1))

    def other(self, pulled_v: float) -> float:
        """The voltage of the line that is not pulled."""
        return min(_SUM * self.vdd_v - pulled_v, _HIGH * self.vdd_v)

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
            grid_v = np.clip(_grid_v(self.vdd_v), line_v[0], line_v[-1])
            found.append(CubicSpline(line_v, along[:, unique], axis=1)(grid_v))
        # Without a driven word line there is one ramp, and it holds for every level.
        return np.stack((found * len(LEVELS))[: len(LEVELS)][::-1], axis=1)


def _grid_v(vdd_v: float) -> Float[np.ndarray, " voltage"]:
    """The bit-line axis, in volts."""
    return np.linspace(_LOW, _HIGH, VOLTAGES) * vdd_v


def _sweep(bench: ColumnBench, *, driven: bool) -> _Sweep:
    high, low = (end * bench.corner.vdd_v for end in (_HIGH, _LOW))
    corners: list[tuple[int, float, float]] = [(0, high, 1.0)]
    reads: list[tuple[int, int]] = []
    for index, level in enumerate(LEVELS[::-1] if driven else LEVELS[-1:]):
        start = corners[-1][0] + _TURN_STEPS
        here = corners[-1][1]
        stop = start + (_EDGE_STEPS if index else _TOP_STEPS)
        corners += [(start, here, level), (stop, low if here == high else high, level)]
        reads.append((start, stop))
    return _Sweep(tuple(corners), tuple(reads), bench.corner.vdd_v)


def _deck(
    bench: ColumnBench, state: tuple[int, int], shift_v: Float[np.ndarray, "sample device"], sweep: _Sweep
) -> Deck:
    """All cells of one state on common ramps, each with a sense source a line."""
    cell, process, vdd_v = bench.cell, bench.process, bench.corner.vdd_v
    probes = [f"{name}_{i}" for name in ("sense0", "sense1", *cell.ports.storage) for i in range(len(shift_v))]
    first = sweep.corners[0][1]
    lines_v = [first, sweep.other(first)] if _pulled(state[0]) == 0 else [sweep.other(first), first]
    initial = {"vdd": vdd_v, "line0": lines_v[0], "line1": lines_v[1]}
    initial |= {f"line{k}_{i}": lines_v[k] for i in range(len(shift_v)) for k in (0, 1)}
    for node, level in cell.weight[state[1]].items():
        initial |= {f"{node}_{i}": level * vdd_v for i in range(len(shift_v))}
    text = [
        title_line(f"bank of {cell.name}: product {state[0]}, weight {state[1]}, {bench.corner}"),
        f".option temp={bench.corner.temp_c:.9g} method=gear reltol=1e-5 abstol=1e-13 vntol=1e-7",
        process.corner_text(bench.corner.process).strip(),
        *cell.subcircuit.render(cell.parameters, process.model_names),
        f"vdd vdd 0 {vdd_v:.9g}",
        *_ramps(bench, state, sweep),
        *(line for i, shifts in enumerate(shift_v) for line in _cell(bench, i, shifts)),
        *(f".ic v({node})={level:.9g}" for node, level in initial.items()),
        *(f".save v({probe})" for probe in probes),
        f".tran {_STEP_S:g} {sweep.times_s[-1]:.9g} 0 {_STEP_S:g} uic",
        ".end",
    ]
    return Deck("\n".join(text) + "\n", tuple(probes), sweep.times_s)


def _ramps(bench: ColumnBench, state: tuple[int, int], sweep: _Sweep) -> list[str]:
    """The two bit lines and the word lines as piecewise linear sources."""
    pulled = [(step, voltage) for step, voltage, _ in sweep.corners]
    kinks = [step for (a, va, _), (b, vb, _) in pairwise(sweep.corners) for step in _kinks(sweep, a, va, b, vb)]
    steps = sorted({*(float(step) for step, _ in pulled), *kinks})
    down = np.interp(steps, [step for step, _ in pulled], [voltage for _, voltage in pulled])
    both = [[(s, float(v)) for s, v in zip(steps, down, strict=True)]]
    both.append([(s, sweep.other(v)) for s, v in both[0]])
    if _pulled(state[0]) == 1:
        both.reverse()
    drive = bench.cell.drive[state[0] * state[1]]
    lines = [f"vline{k} line{k} 0 pwl({_pwl(points)})" for k, points in enumerate(both)]
    for name, level in drive.items():
        points = [(float(step), share * level * bench.word_line_v) for step, _, share in sweep.corners]
        lines.append(f"vword_{name} word_{name} 0 pwl({_pwl(points)})")
    return lines


def _kinks(sweep: _Sweep, start: int, start_v: float, stop: int, stop_v: float) -> list[float]:
    """Where the line that is not pulled meets its highest voltage, between two corners."""
    turn = (_SUM - _HIGH) * sweep.vdd_v
    if not min(start_v, stop_v) < turn < max(start_v, stop_v):
        return []
    return [start + (stop - start) * (turn - start_v) / (stop_v - start_v)]


def _pwl(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{_STEP_S * step:.9g} {voltage:.9g}" for step, voltage in points)


def _cell(bench: ColumnBench, index: int, shifts: Float[np.ndarray, " device"]) -> list[str]:
    """One cell with a sense source and a current-controlled voltage source for each bit line."""
    cell = bench.cell
    nodes = {name: f"line{k}_{index}" for k, name in enumerate(cell.ports.bit_lines)}
    nodes |= {name: f"{name}_{index}" for name in cell.ports.storage}
    nodes |= {name: f"word_{name}" for name in cell.ports.word_lines}
    nodes |= {cell.ports.supply: "vdd", cell.ports.ground: "0"}
    shift = [f"{device.delvto}={value:.9g}" for device, value in zip(cell.devices, shifts, strict=True)]
    lines = [" ".join([f"x{index}", *(nodes[port] for port in cell.subcircuit.ports), cell.subcircuit.name, *shift])]
    for k in (0, 1):
        lines.append(f"vsense{k}_{index} line{k}_{index} line{k} 0")
        lines.append(f"hsense{k}_{index} sense{k}_{index} 0 vsense{k}_{index} {_GAIN_OHM:g}")
    return lines
