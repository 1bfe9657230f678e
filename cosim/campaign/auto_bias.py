"""A safe word-line voltage and pulse, found by simulating full columns at the counts where cells flip first.

A column is a giant latch: too much word-line voltage flips the cell that stands alone against all others. So a few
columns with one such cell and real mismatch are read at rising word-line voltages, each until it flips; the bias stays
`SIGMAS` standard deviations of these edges below their mean. And a line that is pulled all the way to the ground
counts nothing any more: with every row pulling, no line may end below `FLOOR` of the supply.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cosim.campaign.points import ColumnDraw, ColumnPoint
from cosim.campaign.workers import Open, Stoppable, Stopped, engine_here, never
from cosim.circuit.column import ColumnBench, flipped_rows
from cosim.errors import MeasuredWorseError
from cosim.spice.engine import Engine, EngineName, Failed, open_engine

FORMAT = 1
"""Raised when the same column gets another bias."""

DRAWS = 8
"""Columns with one cell against all others, for each line that it pulls."""
SIGMAS = 5.0
"""From the mean edge down to the bias, in standard deviations of the edges: one cell in 3 million flips, if normal."""
FLOOR = 0.2
"""The lowest that a line may end, in units of the supply; the fast column is not to be relied on below."""
WORD_LINE_STEP_V, PULSE_STEP_S = 5e-3, 5e-12
"""What is found is a whole multiple of these."""
EDGE_STEP_V = 10e-3
_SHORTER = 0.8
"""What is left of the longest pulse that flips no cell."""
_NEARLY = 1e-6
"""A multiple of a step is one also where its last digits say otherwise."""
_WORD_LINE_SPAN, _LONGEST_S = (0.2, 1.0), 1e-9
"""Where a cell's contract has no range: in units of the supply, and in seconds."""


@dataclass(frozen=True, slots=True)
class BiasTask:
    """One operating point's bias to be found.

    Args:
        point: The column; what is to be found has the cell's default in its bench.
        auto: What is to be found, of word_line_v and pulse_s.
        key: The hash of all that the bias depends on.
    """

    point: ColumnPoint
    auto: tuple[str, ...]
    key: str
    seed: int
    engine: EngineName
    timeout_s: float
    engine_version: str

    def own_key(self, engine_version: str) -> str:
        """The key as this cosim makes it."""
        deck, ranges = self.point.nominal_deck(), self.point.bench.cell.ranges
        spans = [ranges.word_line_v, ranges.pulse_s]
        limits = [DRAWS, SIGMAS, FLOOR, WORD_LINE_STEP_V, PULSE_STEP_S, EDGE_STEP_V]
        what = [FORMAT, self.auto, spans, limits, deck.text, self.point.settings(), self.seed]
        return hashlib.sha256(json.dumps([*what, self.engine, engine_version]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FoundBias:
    """A safe bias, or the reason why there is none.

    Args:
        edge_v: Mean and standard deviation of the word-line voltages at which cells began to flip; NaN where they
            were not looked for.
        lowest_v: The lowest line of columns whose rows all pull it, in volts.
        failure: Empty where there is a bias.
    """

    word_line_v: float
    pulse_s: float
    edge_v: tuple[float, float] = (float("nan"), float("nan"))
    lowest_v: float = float("nan")
    failure: str = ""

    def figures(self) -> dict[str, float]:
        """What was found, by the names that files use."""
        named = {"edge_mean_v": self.edge_v[0], "edge_sigma_v": self.edge_v[1], "lowest_v": self.lowest_v}
        return {name: value for name, value in named.items() if np.isfinite(value)}


def run_bias(task: BiasTask, open_: Open = open_engine, stopped: Stopped = never) -> FoundBias:
    """Find a task's bias on this thread's own engine: about ten seconds for a column of 64 rows.

    Raises:
        CancelledError: `stopped` said so between two decks.
        InputError: The ngspice here is of another version than the task's key stands for.
    """
    engine = Stoppable(engine_here(task.engine, task.engine_version, open_), stopped)
    try:
        return find_bias(task.point.bench, task.auto, engine, seed=task.seed, timeout_s=task.timeout_s)
    except MeasuredWorseError as error:
        return FoundBias(float("nan"), float("nan"), failure=error.message)


def find_bias(
    bench: ColumnBench, auto: tuple[str, ...], engine: Engine, *, seed: int = 0, timeout_s: float = 60.0
) -> FoundBias:
    """The highest safe word-line voltage, then the longest safe pulse; what is not asked for stays the bench's.

    Args:
        bench: The column, with the bias that is given and any other in the place of what is to be found.
        auto: What is to be found, of word_line_v and pulse_s.

    Raises:
        MeasuredWorseError: Nothing in the cell's range is safe, or a column gave no values.
    """
    trial = _Trial(engine, seed, timeout_s)
    edge_v, given_s = (float("nan"), float("nan")), bench.pulse_s
    if "word_line_v" in auto:
        edge_v, highest_v = _edge(bench, trial)
        bench = replace(bench, word_line_v=_highest(bench, highest_v))
        if "pulse_s" not in auto:
            bench = _above_floor(bench, trial)
    if "pulse_s" in auto:
        bench = replace(bench, pulse_s=_pulse(bench, trial))
        if "word_line_v" in auto and bench.pulse_s > given_s:
            # Cells may flip a little earlier in a longer pulse; a lower word line keeps the lines above the floor.
            edge_v, highest_v = _edge(bench, trial)
            bench = replace(bench, word_line_v=min(bench.word_line_v, _highest(bench, highest_v)))
    return FoundBias(bench.word_line_v, bench.pulse_s, edge_v, trial.lowest_v(bench))


class _Trial:
    """Columns of an operating point, read in the full circuit."""

    def __init__(self, engine: Engine, seed: int, timeout_s: float) -> None:
        self._engine, self._seed, self._timeout_s = engine, seed, timeout_s

    def draws(self, bench: ColumnBench) -> list[tuple[ColumnPoint, ColumnDraw]]:
        """Columns with one cell against all others, the same at every bias and corner."""
        alone = min(1, bench.rows - 1)
        points = (ColumnPoint(bench, alone, bench.rows - alone, 1), ColumnPoint(bench, bench.rows - alone, alone, 1))
        return [(point, point.draw(self._seed, _first(i))) for i in range(DRAWS) for point in points]

    def flips(self, point: ColumnPoint, draw: ColumnDraw) -> bool:
        """Whether a cell loses what it stores."""
        return bool(flipped_rows(point.bench, draw.weights, self._read(point, draw)).any())

    def holds(self, bench: ColumnBench) -> bool:
        """Whether no cell flips in any of the draws."""
        return not any(self.flips(point, draw) for point, draw in self.draws(bench))

    def lowest_v(self, bench: ColumnBench) -> float:
        """The lowest line of columns whose rows all pull it; ends at the first below the floor."""
        lowest_v = np.inf
        for sample in range(DRAWS // 2):
            for line, point in enumerate((ColumnPoint(bench, bench.rows, 0, 1), ColumnPoint(bench, 0, bench.rows, 1))):
                values = self._read(point, point.draw(self._seed, _first(sample)))
                lowest_v = min(lowest_v, float(values[line, -1]))
                if lowest_v < FLOOR * bench.corner.vdd_v:
                    return lowest_v
        return lowest_v

    def above_floor(self, bench: ColumnBench) -> bool:
        """Whether every line ends where it still tells counts apart."""
        return self.lowest_v(bench) >= FLOOR * bench.corner.vdd_v

    def _read(self, point: ColumnPoint, draw: ColumnDraw) -> np.ndarray:
        (result,) = self._engine.run([point.deck(draw)], timeout_s=self._timeout_s)
        if isinstance(result, Failed):
            raise MeasuredWorseError(f"a column gave no values: {result.reason}: {result.detail}")
        return result.values


def _first(sample: int) -> int:
    """Indices of draws that no campaign uses as samples."""
    return 2**31 + sample


def _edge(bench: ColumnBench, trial: _Trial) -> tuple[tuple[float, float], float]:
    """Mean and sigma of the word-line voltages where each draw begins to flip; and the highest safe one."""
    low_v, high_v = _span(bench, "word_line_v")
    edges_v: list[float] = []
    for point, draw in trial.draws(bench):
        edge_v = _last(low_v, high_v, EDGE_STEP_V, partial(_keeps, trial, point, draw))
        if edge_v is None:
            raise MeasuredWorseError(f"no safe word-line voltage: cells flip at {low_v:g} V, the lowest allowed")
        edges_v.append(edge_v)
    mean_v, sigma_v = float(np.mean(edges_v)), float(np.std(edges_v, ddof=1))
    return (mean_v, sigma_v), mean_v - SIGMAS * max(sigma_v, EDGE_STEP_V / np.sqrt(12))


def _keeps(trial: _Trial, point: ColumnPoint, draw: ColumnDraw, word_line_v: float) -> bool:
    return not trial.flips(replace(point, bench=replace(point.bench, word_line_v=word_line_v)), draw)


def _highest(bench: ColumnBench, highest_v: float) -> float:
    """The highest safe word-line voltage within the cell's range, down to a whole step."""
    low_v, high_v = _span(bench, "word_line_v")
    top_v = _whole(min(highest_v, high_v), WORD_LINE_STEP_V)
    if top_v < low_v:
        holds = f"{highest_v:.3f} V would hold all cells, {low_v:g} V is the lowest allowed"
        raise MeasuredWorseError(f"no safe word-line voltage: {holds}")
    return top_v


def _above_floor(bench: ColumnBench, trial: _Trial) -> ColumnBench:
    """The bench with the highest word-line voltage up to its own with which lines stay above the floor."""
    if trial.above_floor(bench):
        return bench
    first_v = _whole_up(_span(bench, "word_line_v")[0], WORD_LINE_STEP_V)
    found_v = _last(
        first_v, bench.word_line_v, WORD_LINE_STEP_V, lambda v: trial.above_floor(replace(bench, word_line_v=v))
    )
    if found_v is None:
        ends = f"a line ends below {FLOOR * bench.corner.vdd_v:g} V even at {first_v:g} V"
        raise MeasuredWorseError(f"no safe word-line voltage: {ends}, for a pulse of {1e12 * bench.pulse_s:g} ps")
    return replace(bench, word_line_v=found_v)


def _pulse(bench: ColumnBench, trial: _Trial) -> float:
    """The longest pulse whose lowest line stays above the floor, and that flips no cell."""
    low_s, high_s = _span(bench, "pulse_s")
    shortest_s = max(low_s, bench.cell.defaults.edge_s, bench.time_step_s)
    first_s = _whole_up(shortest_s, PULSE_STEP_S)
    said = f"at a word-line voltage of {bench.word_line_v:g} V"
    longest_s = _last(first_s, high_s, PULSE_STEP_S, lambda s: trial.above_floor(replace(bench, pulse_s=s)))
    if longest_s is None:
        ends = f"a line ends below {FLOOR * bench.corner.vdd_v:g} V after {1e12 * first_s:g} ps"
        raise MeasuredWorseError(f"no safe pulse: {ends} {said}")
    if trial.holds(replace(bench, pulse_s=longest_s)):
        return longest_s
    held_s = _last(first_s, longest_s, PULSE_STEP_S, lambda s: trial.holds(replace(bench, pulse_s=s)))
    if held_s is None:
        raise MeasuredWorseError(f"no safe pulse: cells flip within {1e12 * first_s:g} ps {said}")
    return max(first_s, _whole(_SHORTER * held_s, PULSE_STEP_S))


def _span(bench: ColumnBench, name: str) -> tuple[float, float]:
    span = getattr(bench.cell.ranges, name)
    if span is not None:
        return span
    if name == "word_line_v":
        return _WORD_LINE_SPAN[0] * bench.corner.vdd_v, _WORD_LINE_SPAN[1] * bench.corner.vdd_v
    return 2 * bench.cell.defaults.edge_s, _LONGEST_S


def _last(low: float, high: float, step: float, good: Callable[[float], bool]) -> float | None:
    """The last of low, low + step, ... up to high that is good, if all below it are; None where none is.

    >>> _last(0.3, 1.2, 0.1, lambda v: v < 0.75)
    0.7
    """
    values = [round(low + index * step, 15) for index in range(1 + int((high - low) / step + _NEARLY))]
    below, above = -1, len(values)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if good(values[middle]) else (below, middle)
    return values[below] if below >= 0 else None


def _whole(value: float, step: float) -> float:
    """The value down to a whole multiple of a step.

    >>> _whole(0.5273, 5e-3)
    0.525
    """
    return round(math.floor(value / step + _NEARLY) * step, 15)


def _whole_up(value: float, step: float) -> float:
    """The value up to a whole multiple of a step.

    >>> _whole_up(0.5273, 5e-3)
    0.53
    """
    return round(math.ceil(value / step - _NEARLY) * step, 15)
