"""Level L2: columns read by the fast model where it passes its own check, by the full circuit where it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cosim import hdf5
from cosim.campaign.points import ColumnPoint
from cosim.campaign.workers import Open, Stoppable, Stopped, engine_here, never
from cosim.circuit.column import ColumnBench
from cosim.errors import InputError, MeasuredWorseError
from cosim.fast.build import build_fast_column, simulate
from cosim.fast.check import check
from cosim.fast.column import FastColumn
from cosim.fast.files import FAST_COLUMN, from_content, to_content
from cosim.spice.engine import Engine, EngineName, open_engine

FORMAT = 2
"""Raised when the fast column or the check of the same bench gives other figures."""

CHECK_DRAWS = 20
"""Full columns at each pair of counts of the check."""

Pair = tuple[int, int]
"""Rows that pull BL and rows that pull BLB."""


@dataclass(frozen=True, slots=True)
class FastTask:
    """One operating point's fast column, to be built and checked.

    Args:
        point: The column at its operating point.
        pairs: Counts with rows off that are checked as well.
        key: The hash of all that the fast column and its check depend on.
    """

    point: ColumnPoint
    pairs: tuple[Pair, ...]
    key: str
    seed: int
    engine: EngineName
    timeout_s: float
    engine_version: str

    def own_key(self, engine_version: str) -> str:
        """The key as this cosim makes it."""
        deck, format_ = self.point.nominal_deck(), [FORMAT, CHECK_DRAWS, *FAST_COLUMN[1]]
        what = [format_, deck.text, deck.probes, deck.times_s, self.point.settings(), self.pairs, self.seed]
        return hashlib.sha256(json.dumps([*what, self.engine, engine_version]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FastLevel:
    """What the columns of an operating point are read with.

    Args:
        fast: The fast column; None where the full circuit reads all of them.
        good: Pairs of counts that were checked, and whether the fast column was within its bound there.
        figures: What the check found, by the names that files use.
    """

    fast: FastColumn | None
    good: Mapping[Pair, bool]
    figures: Mapping[str, Any]

    @property
    def level(self) -> str:
        """L2 where the fast column reads any counts."""
        return "L0" if self.fast is None else "L2"

    def fast_at(self, pair: Pair) -> FastColumn | None:
        """What reads these counts: the fast column where it was good at the checked counts on both sides of them.

        The neighbours are those with as many rows on.
        """
        if self.fast is None:
            return None
        checked = {minus: good for (minus, plus), good in self.good.items() if minus + plus == sum(pair)}
        below, above = [n for n in checked if n <= pair[0]], [n for n in checked if n >= pair[0]]
        return self.fast if below and above and checked[max(below)] and checked[min(above)] else None


FULL = FastLevel(None, {}, {})
"""Every transistor of every column in ngspice."""


def checked_counts(rows: int) -> tuple[int, ...]:
    """The counts of the check with all rows on: those of `check`, and all rows on one line.

    >>> checked_counts(64)
    (0, 16, 32, 48, 60, 64)
    """
    return tuple(sorted({0, rows // 4, rows // 2, 3 * rows // 4, 15 * rows // 16, rows}))


def pairs_off(pairs: tuple[Pair, ...], rows: int) -> tuple[Pair, ...]:
    """The counts with rows off to be checked, for these counts to be read: both ends and the middle of each number on.

    >>> pairs_off(((12, 20), (0, 64), (0, 16), (8, 8), (16, 0)), 64)
    ((0, 16), (8, 8), (12, 20), (16, 0))
    """
    wanted: set[Pair] = set()
    for active in {sum(pair) for pair in pairs if sum(pair) < rows}:
        minus = sorted(pair[0] for pair in pairs if sum(pair) == active)
        wanted |= {(n, active - n) for n in (minus[0], minus[len(minus) // 2], minus[-1])}
    return tuple(sorted(wanted))


def run_fast(task: FastTask, open_: Open = open_engine, stopped: Stopped = never) -> hdf5.Content:
    """Build and check a fast column on this thread's own engine: what `level_of` reads; about 20 seconds at 64 rows.

    Raises:
        CancelledError: `stopped` said so between two decks.
        InputError: The ngspice here is of another version than the task's key stands for.
    """
    engine = Stoppable(engine_here(task.engine, task.engine_version, open_), stopped)
    try:
        fast = build_fast_column(task.point.bench, engine, seed=task.seed)
        table, bound_v = _table(fast, task, engine)
    except (MeasuredWorseError, InputError, np.linalg.LinAlgError, ValueError) as error:
        reason = error.message if isinstance(error, MeasuredWorseError | InputError) else str(error)
        return hdf5.Content({"level": "L0", "l2_reason": reason, "l2_table": "[]"}, {})
    judged = _judged(table, bound_v)
    if judged["level"] == "L0":
        return hdf5.Content(judged, {})
    content = to_content(fast)
    return hdf5.Content(dict(content.attributes) | judged, content.datasets)


def level_of(content: hdf5.Content) -> FastLevel:
    """What reads an operating point's columns, out of what `run_fast` gave.

    Raises:
        InputError: The content is incomplete.
    """
    try:
        about = content.attributes
        table = json.loads(str(about["l2_table"]))
        good = {(int(row["n_minus"]), int(row["n_plus"])): bool(row["good"]) for row in table}
        figures: dict[str, Any] = {
            name: value
            for name, value in about.items()
            if name.startswith("l2_") and name != "l2_table" and value == value  # no NaN: JSON knows none
        }
        figures["l2_table"] = table
        fast = from_content(content) if about["level"] == "L2" else None
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"an incomplete fast level: {error}") from error
    return FastLevel(fast, good, figures)


def _table(fast: FastColumn, task: FastTask, engine: Engine) -> tuple[list[dict[str, Any]], float]:
    """The check, a row for each pair of counts, and its bound; errors are of BL, BLB and their difference."""
    bench, seed = task.point.bench, task.seed + 2  # The bank has the seed, the columns of the fit the next one.
    counts = checked_counts(bench.rows)
    found = check(fast, bench, engine, draws=CHECK_DRAWS, counts=counts, seed=seed)
    rows = [
        _row((n, bench.rows - n), found.bias_v[i], found.rms_v[i], float(found.usable[i]), bool(found.within[i].all()))
        | {"mean_counts": _all(found.mean_error_counts[i]), "sigma_percent": _all(100 * found.sigma_error[i])}
        for i, n in enumerate(found.count)
    ]
    off = [_off_row(fast, bench, engine, pair, seed, found.bound_v) for pair in task.pairs]
    return rows + off, found.bound_v


def _off_row(
    fast: FastColumn, bench: ColumnBench, engine: Engine, pair: Pair, seed: int, bound_v: float
) -> dict[str, Any]:
    """As `check`, where rows are off."""
    columns = simulate(bench, engine, [pair] * CHECK_DRAWS, seed=seed)
    error_v = fast.read(columns.products, columns.weights, columns.vth_shift_v) - columns.voltage_v[:, :, -1]
    # A column may have one line: then the second and the difference are no numbers.
    signals = np.c_[error_v, error_v[:, 0] - error_v[:, 1]]
    lines = len(bench.cell.ports.bit_lines)
    usable = np.isfinite(error_v[:, :lines]).all(axis=1) & ~columns.flipped
    if not usable.any():
        return _row(pair, np.full(3, np.nan), np.full(3, np.nan), 0.0, False)
    bias_v, rms_v = signals[usable].mean(axis=0), signals[usable].std(axis=0)
    here = slice(None) if lines == 2 else slice(1)
    good = usable.all() and (np.abs(bias_v[here]) <= bound_v).all() and (rms_v[here] <= bound_v).all()
    return _row(pair, bias_v, rms_v, float(usable.mean()), bool(good))


def _row(pair: Pair, bias_v: np.ndarray, rms_v: np.ndarray, usable: float, good: bool) -> dict[str, Any]:
    errors = {"bias_mv": _all(1e3 * bias_v), "rms_mv": _all(1e3 * rms_v)}
    return {"n_minus": pair[0], "n_plus": pair[1], **errors, "usable": usable, "good": good}


def _all(values: Float[np.ndarray, " signal"]) -> list[float | None]:
    """JSON knows no NaN, and six digits behind the point are enough."""
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]


def _judged(table: list[dict[str, Any]], bound_v: float) -> dict[str, str | int | float]:
    """The level that a check allows, with its figures: no fast column at all where a cell flipped in any draw."""
    lost = [row for row in table if row["usable"] < 1]
    good = [row for row in table if row["good"]]
    reason = ""
    if lost:
        share = 100 * (1 - sum(row["usable"] for row in table) / len(table))
        reason = f"cells flipped, or ngspice failed, in {share:.1f} % of the columns of the check"
    elif not good:
        reason = f"the fast column misses its bound of {1e3 * bound_v:.3g} mV at every checked count"
    elif len(good) < len(table):
        where = ", ".join(f"{row['n_minus']}+{row['n_plus']}" for row in table if not row["good"])
        reason = f"the fast column misses its bound of {1e3 * bound_v:.3g} mV at {where} rows on BL+BLB"
    level = "L0" if lost or not good else "L2"
    figures: dict[str, str | int | float] = {"level": level, "l2_table": json.dumps(table)}
    figures |= {"l2_draws": CHECK_DRAWS} | ({"l2_bound_mv": round(1e3 * bound_v, 6)} if np.isfinite(bound_v) else {})
    figures |= {"l2_reason": reason} if reason else {}
    for name in ("bias_mv", "rms_mv", "mean_counts", "sigma_percent"):
        values = [abs(v) for row in (good if level == "L2" else table) for v in row.get(name, ()) if v is not None]
        figures |= {f"l2_{name}": max(values)} if values else {}
    return figures
