"""Runs the samples of one task in a worker: draws, decks, read-out, and the reason of each failure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from cosim.campaign.filetypes import STATUS
from cosim.campaign.points import ColumnPoint, ComparatorPoint, Point
from cosim.circuit.column import flipped_rows
from cosim.circuit.comparator import decision
from cosim.errors import InputError
from cosim.spice.engine import Engine, EngineName, Failed, open_engine


@dataclass(frozen=True, slots=True)
class Task:
    """Some consecutive samples of one point.

    Args:
        key: The hash of all that the samples depend on; see `key_of`.
        engine_version: The ngspice version that the key stands for.
    """

    point: Point
    key: str
    seed: int
    start: int
    stop: int
    engine: EngineName
    timeout_s: float
    engine_version: str


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


def run_task(
    task: Task, open_: Callable[[EngineName], Engine] = open_engine, stopped: Callable[[], bool] = lambda: False
) -> Samples:
    """Run every sample of a task on this thread's own engine.

    Raises:
        CancelledError: `stopped` said so between two samples; what was simulated is lost.
        InputError: The ngspice here is of another version than the task's key stands for.
    """
    engine = _engine(task.engine, open_)
    if engine.version != task.engine_version:
        hint = "install the same ngspice wherever tasks run"
        raise InputError(f"ngspice {engine.version}, expected {task.engine_version} as where cosim runs", hint=hint)
    sample = _column_sample if isinstance(task.point, ColumnPoint) else _comparator_sample
    rows: list[Row] = []
    for index in range(task.start, task.stop):
        if stopped():
            raise CancelledError
        rows.append(sample(task, index, engine))
    failures = {row["sample"]: row.pop("detail") for row in rows if "detail" in row}
    columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in _dtypes(task.point).items()}
    return Samples(task, columns | controls_of(task), failures)


def controls_of(task: Task) -> dict[str, Float[np.ndarray, "sample control"]]:
    """What the draws of a task tell of its samples before they are simulated; see `Samples.columns`."""
    point, samples = task.point, range(task.start, task.stop)
    if isinstance(point, ComparatorPoint):
        return {"control": np.array([point.controls(task.seed, index) for index in samples], np.float32)}
    drawn = [point.controls(point.draw(task.seed, index)) for index in samples]
    bl, blb = np.array(drawn, np.float32).transpose(1, 0, 2)
    return {"control_bl": bl, "control_blb": blb}


_local = threading.local()


def _engine(name: EngineName, open_: Callable[[EngineName], Engine]) -> Engine:
    engines: dict[object, Engine] = _local.__dict__.setdefault("engines", {})
    if (name, open_) not in engines:
        engines[name, open_] = open_(name)
    return engines[name, open_]


def _dtypes(point: Point) -> dict[str, type]:
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
