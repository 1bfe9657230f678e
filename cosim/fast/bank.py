"""The bank: the static bit-line currents of a few hundred cells under mismatch, measured in ngspice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm, qmc

from cosim.circuit.column import ColumnBench
from cosim.errors import MeasuredWorseError
from cosim.fast.sweep import GAIN_OHM, TIMEOUT_S, Drive, plan_sweep, pulled_line, sweep_deck, voltage_axis
from cosim.spice.engine import Engine, Failed

STATES = ((-1, -1), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 1))
"""(product, weight) of a row, in the order of every `state` axis: index = 2 (product + 1) + (weight > 0)."""

SPREAD = 1.4
"""Standard deviation of the bank's threshold shifts in units of the process's: it must cover the tails."""

CELLS = 240
"""Cells of the bank in each state."""

LEVELS = (0.0, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Word-line levels of a discharging column, in units of the peak: its edges count."""

_DISCHARGE_SUM = 1.2
_MAX_FLIPPED = 0.25


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


def measure_bank(
    bench: ColumnBench, engine: Engine, *, seed: int, cells: int = CELLS, drive: Drive | None = None
) -> Bank:
    """Simulate `cells` cells in each of the six states, one deck a state; some seconds.

    Every cell has its own sense sources, and storage nodes that settle: the bit lines are swept over microseconds.

    Args:
        bench: The cell, its process and its corner.
        engine: What runs the decks.
        seed: Of the shifts.
        cells: In each state.
        drive: Levels of word line and bit lines; by default those of a discharging column.

    Raises:
        MeasuredWorseError: ngspice gave no currents, or more than a quarter of a state's cells flipped.
    """
    drive = drive or Drive(bench.word_line_v, LEVELS, _DISCHARGE_SUM)
    shift_v = _draws(bench, seed, cells)
    possible = np.array([product * weight in bench.cell.drive for product, weight in STATES])
    grid_v = voltage_axis(bench.corner.vdd_v)
    current_a = np.zeros((len(STATES), 2, cells, len(drive.levels), grid_v.size))
    settled = np.ones((len(STATES), cells), bool)
    for state in np.flatnonzero(possible):
        current_a[state], settled[state] = _measure(bench, engine, drive, STATES[state], shift_v[state])
        lost = 1 - settled[state].mean()
        if lost > _MAX_FLIPPED:
            message = f"{100 * lost:.0f} % of the bank's cells flipped at {bench.corner}, {drive.word_line_v:g} V"
            raise MeasuredWorseError(message, hint="a lower word_line_v")
    return Bank(shift_v, current_a, np.array(drive.levels), grid_v, settled, possible)


def _measure(
    bench: ColumnBench,
    engine: Engine,
    drive: Drive,
    state: tuple[int, int],
    shift_v: Float[np.ndarray, "sample device"],
) -> tuple[Float[np.ndarray, "line sample level voltage"], Bool[np.ndarray, " sample"]]:
    """Currents of one state's cells, and whether each kept what it stored."""
    product, weight = state
    storage = bench.cell.ports.storage
    sweep = plan_sweep(bench.corner.vdd_v, drive, driven=any(bench.cell.drive[product * weight].values()))
    (result,) = engine.run([sweep_deck(bench, drive, state, shift_v, sweep)], timeout_s=TIMEOUT_S)
    if isinstance(result, Failed):
        raise MeasuredWorseError(f"no currents of {bench.cell.name} at {bench.corner}: {result.detail}")
    values = result.values.reshape(2 + len(storage), len(shift_v), -1)
    high = np.array([bench.cell.weight[weight][node] > 0.5 for node in storage])
    settled = ((values[2:] > bench.corner.vdd_v / 2) == high[:, None, None]).all(axis=(0, 2))
    pulled = pulled_line(bench, product)
    current_a = [sweep.curves(-values[line] / GAIN_OHM, pulled == line) for line in (0, 1)]
    return np.array(current_a), settled


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
