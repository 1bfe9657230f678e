"""Runs the samples of one task in a worker: draws, decks, read-out, and the reason of each failure."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from cosim.campaign.filetypes import STATUS
from cosim.campaign.points import ColumnDraws, ColumnPoint, ComparatorPoint, Point, key_of
from cosim.campaign.workers import Open, Stopped, engine_here, never
from cosim.circuit.column import flipped_rows
from cosim.circuit.comparator import decision
from cosim.fast.column import FastColumn
from cosim.fast.files import to_content
from cosim.hdf5 import content_hash
from cosim.spice.engine import Engine, EngineName, Failed, open_engine


@dataclass(frozen=True, slots=True)
class Task:
    """Some consecutive samples of one point.

    Args:
        key: The hash of all that the samples depend on; see `key_of`.
        engine_version: The ngspice version that the key stands for.
        fast: What reads the columns; the full circuit does where it is None.
    """

    point: Point
    key: str
    seed: int
    start: int
    stop: int
    engine: EngineName
    timeout_s: float
    engine_version: str
    fast: FastColumn | None = None

    def own_key(self, engine_version: str) -> str:
        """The key as this cosim makes it."""
        return key_of(self.point, self.seed, self.engine, engine_version, fast_hash(self.fast))


@dataclass(frozen=True, slots=True)
class Samples:
    """The outcome of a task: one entry a sample in each column, and the failures' details.

    Args:
        columns: For a column `bl_v`, `blb_v`, `flipped`, and `control_bl`, `control_blb` (sample, control); for a
            comparator `offset_v` and `control` (sample, device); and always `sample`, `status`.
        failures: Sample index to "reason: detail".
    """

    task: Task
    columns: dict[str, Shaped[np.ndarray, "sample *control"]]
    failures: dict[int, str]


Row = dict[str, Any]
"""One sample: its columns by name, and `detail` where it failed or flipped."""


def fast_hash(fast: FastColumn | None) -> str:
    """The hash of all numbers of a fast column; empty for the full circuit."""
    return "" if fast is None else content_hash(to_content(fast))


def run_task(task: Task, open_: Open = open_engine, stopped: Stopped = never) -> Samples:
    """Run every sample of a task: on this thread's own engine, or all at once by the fast column.

    Raises:
        CancelledError: `stopped` said so between two samples; what was simulated is lost.
        InputError: The ngspice here is of another version than the task's key stands for.
    """
    if task.fast is not None:
        return _fast_samples(task, task.fast)
    engine = engine_here(task.engine, task.engine_version, open_)
    sample = _column_sample if isinstance(task.point, ColumnPoint) else _comparator_sample
    rows: list[Row] = []
    for index in range(task.start, task.stop):
        if stopped():
            raise CancelledError
        rows.append(sample(task, index, engine))
    return _samples(task, rows)


def _samples(task: Task, rows: list[Row]) -> Samples:
    failures = {row["sample"]: row.pop("detail") for row in rows if "detail" in row}
    columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in column_types(task.point).items()}
    return Samples(task, columns | controls_of(task), failures)


def controls_of(task: Task) -> dict[str, Float[np.ndarray, "sample control"]]:
    """What the draws of a task tell of its samples before they are simulated; see `Samples.columns`."""
    point = task.point
    if isinstance(point, ComparatorPoint):
        drawn = [point.controls(task.seed, index) for index in range(task.start, task.stop)]
        return {"control": _rounded(np.array(drawn))}
    return _column_controls(point, point.draws(task.seed, task.start, task.stop))


def _column_controls(point: ColumnPoint, draws: ColumnDraws) -> dict[str, Float[np.ndarray, "sample control"]]:
    bl, blb = point.controls(draws)
    return {"control_bl": _rounded(bl), "control_blb": _rounded(blb)}


def _rounded(controls: Float[np.ndarray, "sample control"]) -> Float[np.ndarray, "sample control"]:
    """To a thousandth of a sigma, which no estimate sees; so files pack them to a third."""
    return (np.rint(controls * 1024) / 1024).astype(np.float32)


def _fast_samples(task: Task, fast: FastColumn) -> Samples:
    """All samples in one read; the fast column knows no flips, which its check in the full circuit excludes."""
    assert isinstance(task.point, ColumnPoint)
    draws = task.point.draws(task.seed, task.start, task.stop)
    lines_v = fast.read(draws.products, draws.weights, draws.vth_shift_v)
    good = np.isfinite(lines_v[:, : len(task.point.bench.cell.ports.bit_lines)]).all(axis=1)
    sample, ok, bad = np.arange(task.start, task.stop), 0, STATUS.index("not_finite")
    values = {
        "sample": sample,
        "status": np.where(good, ok, bad),
        "bl_v": np.where(good, lines_v[:, 0], np.nan),
        "blb_v": np.where(good, lines_v[:, 1], np.nan),
        "flipped": np.where(good, 0, -1),
    }
    columns = {name: values[name].astype(dtype) for name, dtype in column_types(task.point).items()}
    columns |= _column_controls(task.point, draws)
    return Samples(task, columns, {int(i): "not_finite: by the fast column" for i in sample[~good]})


def column_types(point: Point) -> dict[str, type]:
    """The columns that a point's samples have beside the controls, one value a sample each."""
    values = {"bl_v": np.float64, "blb_v": np.float64, "flipped": np.int16}
    if isinstance(point, ComparatorPoint):
        values = {"offset_v": np.float64}
    return {"sample": np.int32, "status": np.uint8} | values


def _column_sample(task: Task, index: int, engine: Engine) -> Row:
    point = task.point
    assert isinstance(point, ColumnPoint)
    draw = point.draw(task.seed, index)
    (result,) = engine.run([point.deck(draw)], timeout_s=task.timeout_s)
    if isinstance(result, Failed):
        return _failure(index, result) | {"bl_v": np.nan, "blb_v": np.nan, "flipped": -1}
    flips = int(flipped_rows(point.bench, draw.weights, result.values).sum())
    status = STATUS.index("flipped" if flips else "ok")
    row = {
        "sample": index,
        "status": status,
        "bl_v": result.values[0, 0],
        # A column of one line has no second one to read.
        "blb_v": result.values[1, 0] if len(point.bench.cell.ports.bit_lines) == 2 else np.nan,
        "flipped": flips,
    }
    return row | ({"detail": f"flipped: {flips} cells"} if flips else {})


def _comparator_sample(task: Task, index: int, engine: Engine) -> Row:
    """The differential input at which the decision turns, by bisection; undecided counts as not yet above."""
    point = task.point
    assert isinstance(point, ComparatorPoint)
    shift_v = point.draw(task.seed, index)

    def decides(differential_v: float) -> int | Failed:
        (result,) = engine.run([point.deck(shift_v, differential_v)], timeout_s=task.timeout_s)
        return result if isinstance(result, Failed) else decision(point.bench, result.values)

    low_v, high_v = -point.range_v, point.range_v
    ends = (decides(low_v), decides(high_v))
    failed = next((end for end in ends if isinstance(end, Failed)), None)
    if failed is None and ends != (-1, 1):
        detail = f"out_of_range: decides {ends[0]} at {low_v:g} V and {ends[1]} at {high_v:g} V"
        return {"sample": index, "status": STATUS.index("out_of_range"), "offset_v": np.nan, "detail": detail}
    while failed is None and high_v - low_v > 2 * point.tolerance_v:
        middle_v = (low_v + high_v) / 2
        if middle_v in (low_v, high_v):
            break  # the two are neighbours: no number lies between them
        answer = decides(middle_v)
        if isinstance(answer, Failed):
            failed = answer
        elif answer > 0:
            high_v = middle_v
        else:
            low_v = middle_v
    if failed is not None:
        return _failure(index, failed) | {"offset_v": np.nan}
    return {"sample": index, "status": 0, "offset_v": (low_v + high_v) / 2}


def _failure(index: int, failed: Failed) -> Row:
    return {
        "sample": index,
        "status": STATUS.index(failed.reason),
        "detail": f"{failed.reason}: {failed.detail}",
    }
