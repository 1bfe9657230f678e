"""The fast column of a cell at many operating points: one row each, as it is measured."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cosim.circuit.cell import Cell
from cosim.circuit.column import ColumnBench, column_bench
from cosim.circuit.corner import Corner
from cosim.circuit.process import Process
from cosim.errors import CosimError
from cosim.fast.bank import CELLS
from cosim.fast.build import build_fast_column
from cosim.fast.build_discharge import LOWEST
from cosim.fast.check import Check, check
from cosim.spice.engine import Engine

CONVERGED_S = 5e-12
"""A time step at which a discharging column errs by less than 0.15 mV wherever its lines end; with the default of 20 ps
it errs by up to 1.7 mV below a fifth of the supply (8T, FF, 1 V, 27 C, against 1 ps steps with tight tolerances)."""

_WORD_LINE_SHARE = 0.5
"""Of the supply, for cells that are read by their currents: nothing flips there at any corner."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a fast column is checked; the cell's own where nothing is given.

    Args:
        corner: Process corner, supply and temperature.
        word_line_v: In volts. By default half the supply; of a charge-sharing cell, its default as a share of the
            supply.
        pulse_s: In seconds.
        rows: Rows of the column.
    """

    corner: Corner
    word_line_v: float | None = None
    pulse_s: float | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What the check of one point found; numbers that there are none of are None.

    Args:
        cell: Its name.
        process: Its name.
        corner: The process corner.
        vdd_v: Supply, in volts.
        temp_c: Temperature, in degrees Celsius.
        word_line_v: In volts.
        pulse_s: In seconds.
        rows: Of the column.
        draws: At each count.
        bias_mv: Worst mean error over counts and signals, as a size, in millivolts.
        rms_mv: Worst rms error.
        bias_counts: Worst mean error in counts.
        rms_counts: Worst rms error in counts.
        sigma_percent: Worst error of sigma (`Check.sigma_error`), in percent.
        bound_mv: Bound on bias and rms.
        passed: Whether all bounds hold at all counts.
        failed_counts: Counts where they do not.
        reliable_above_v: Lines that end lower are not to be relied on; 0 where none is, None where none is known.
        time_step_s: Of the full columns that it was fitted to and checked against.
        build_s: Seconds of the build.
        check_s: Seconds of the check.
        reason: Why there is no fast column, or no usable draw.
    """

    cell: str
    process: str
    corner: str
    vdd_v: float
    temp_c: float
    word_line_v: float
    pulse_s: float
    rows: int
    draws: int
    bias_mv: float | None = None
    rms_mv: float | None = None
    bias_counts: float | None = None
    rms_counts: float | None = None
    sigma_percent: float | None = None
    bound_mv: float | None = None
    passed: bool = False
    failed_counts: tuple[int, ...] = ()
    reliable_above_v: float | None = None
    time_step_s: float = 0.0
    build_s: float = 0.0
    check_s: float = 0.0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for `json.dumps`."""
        return asdict(self) | {"failed_counts": list(self.failed_counts)}


def fast_table(
    cell: Cell,
    process: Process,
    points: Iterable[Corner | Point],
    engine: Engine,
    *,
    draws: int = 20,
    seed: int = 0,
    cells: int = CELLS,
) -> Iterator[Row]:
    """Build and check the fast column at every point; a row as soon as it is known.

    A point where it cannot be built is a row with its reason, and so is one that the cell's ranges refuse. Where a
    discharging column fails and its lines end near the ground, it is fitted and checked once more with CONVERGED_S:
    there it is the full column that errs at its usual steps. The row tells the step.

    Args:
        cell: The bitcell.
        process: Its process.
        points: Where.
        engine: What runs the decks.
        draws: Full columns at each of five counts.
        seed: Of the builds; the checks draw from others.
        cells: Of each bank.
    """
    for each in points:
        point = each if isinstance(each, Point) else Point(each)
        yield _row(cell, process, point, engine, draws, seed, cells)


def grid(
    processes: Iterable[str] = ("tt", "ff", "ss", "sf", "fs"),
    supplies_v: Iterable[float] = (0.9, 1.0, 1.1),
    temperatures_c: Iterable[float] = (-40.0, 27.0, 125.0),
    *,
    nominal: Corner | None = None,
) -> tuple[Corner, ...]:
    """Every process corner at every supply and the nominal temperature, and the nominal one at every temperature.

    >>> len(grid())
    17
    """
    nominal = nominal or Corner()
    corners = [Corner(name, vdd_v, nominal.temp_c) for name in processes for vdd_v in supplies_v]
    corners += [Corner(nominal.process, nominal.vdd_v, temp_c) for temp_c in temperatures_c]
    return tuple(dict.fromkeys(corners))


def _row(cell: Cell, process: Process, point: Point, engine: Engine, draws: int, seed: int, cells: int) -> Row:
    began = time.monotonic()
    fields = _fields(cell, point)
    corner = point.corner
    told = (cell.name, process.name, corner.process, corner.vdd_v, corner.temp_c, fields["word_line_v"])
    plain = Row(*told, fields.get("pulse_s", cell.defaults.pulse_s), fields.get("rows", cell.defaults.rows), draws)
    try:
        bench = column_bench(cell, process, corner, **fields)
        result, seconds = _checked(bench, engine, draws, seed, cells)
        near_ground = np.nanmin(result.lowest_v, initial=np.inf) < LOWEST * corner.vdd_v
        if cell.sensing == "discharge" and near_ground and not result.passed:
            bench = dataclasses.replace(bench, time_step_s=CONVERGED_S)
            result, more = _checked(bench, engine, draws, seed, cells)
            seconds = {name: seconds[name] + more[name] for name in seconds}
    except CosimError as error:
        return dataclasses.replace(plain, reason=str(error), build_s=time.monotonic() - began)
    return dataclasses.replace(plain, **_figures(result), **seconds, time_step_s=bench.time_step_s)


def _checked(bench: ColumnBench, engine: Engine, draws: int, seed: int, cells: int) -> tuple[Check, dict[str, float]]:
    """The check of a new fast column, and the seconds of both."""
    began = time.monotonic()
    fast = build_fast_column(bench, engine, seed=seed, cells=cells)
    middle = time.monotonic()
    result = check(fast, bench, engine, draws=draws, seed=seed + 1000)
    return result, {"build_s": middle - began, "check_s": time.monotonic() - middle}


def _fields(cell: Cell, point: Point) -> dict[str, Any]:
    """The bench's fields that are given or follow from the supply."""
    given = {name: getattr(point, name) for name in ("pulse_s", "rows") if getattr(point, name) is not None}
    share = _WORD_LINE_SHARE
    if cell.sensing == "charge-share":
        share = cell.defaults.word_line_v / cell.defaults.vdd_v
    word_line_v = share * point.corner.vdd_v if point.word_line_v is None else point.word_line_v
    return given | {"word_line_v": word_line_v}


def _figures(result: Check) -> dict[str, Any]:
    worst = {
        "bias_mv": 1e3 * np.abs(result.bias_v),
        "rms_mv": 1e3 * result.rms_v,
        "bias_counts": result.mean_error_counts,
        "rms_counts": result.rms_v / result.volts_a_count,
        "sigma_percent": 100 * result.sigma_error,
    }
    found: dict[str, Any] = {name: _worst(values) for name, values in worst.items()}
    found |= {"bound_mv": _number(1e3 * result.bound_v), "passed": result.passed}
    found |= {"failed_counts": result.failed_counts, "reliable_above_v": _number(result.reliable_above_v)}
    if (result.usable < 1).any():
        found["reason"] = f"{100 * (1 - result.usable.mean()):.0f} % of the full columns flipped or failed"
    return found


def _worst(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
