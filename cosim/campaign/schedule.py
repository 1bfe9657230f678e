"""What a campaign will do: its points, how many samples are on disk, and how long the others take."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosim.campaign.auto_bias import DRAWS
from cosim.campaign.collect import plan
from cosim.campaign.fast_level import CHECK_DRAWS, checked_counts, pairs_off
from cosim.campaign.points import ColumnPoint, ComparatorPoint, Point, circuit_of
from cosim.campaign.prepare import Prepared, pairs_of, prepared
from cosim.campaign.recipe import Campaign
from cosim.campaign.sampling import Task
from cosim.campaign.store import SampleStore
from cosim.errors import InputError
from cosim.resources import usable_cores
from cosim.spice.engine import Engine, Failed, open_engine

FAST_SAMPLE_S = 0.1e-3
"""A sample by the fast column, its draw among it, for 64 rows."""
FAST_BUILD_COLUMNS = 100
"""What a fast column takes to build, in columns of the full circuit: its bank of cells and the columns of its fit."""
AUTO_COLUMNS = 2 * DRAWS * 7 + 8 * DRAWS
"""What `auto` takes: each draw's edge in about seven halvings, and eight for the floor, most of a few columns."""


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point: its samples, those on disk, and the seconds of one on one ngspice process.

    Args:
        operating: The index of its operating point.
        level: What reads it: L0 or L2; comparators are always simulated in full.
    """

    label: str
    samples: int
    done: int
    sample_s: float
    left_s: float
    operating: int = 0
    level: str = "L0"


@dataclass(frozen=True, slots=True)
class PlannedOperating:
    """An operating point.

    Args:
        label: Its corner and bias in words.
        level: What reads its columns; with a `?` where L2 is not checked yet.
        waits: What is to be done before its samples, of "bias" and "fast".
        left_s: Seconds of that.
        reason: Why the full circuit reads counts although L2 was asked for.
    """

    label: str
    level: str
    waits: tuple[str, ...]
    left_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All points of a campaign, and the seconds that are left with so many ngspice processes."""

    points: tuple[PlannedPoint, ...]
    workers: int
    left_s: float
    operating: tuple[PlannedOperating, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The schedule as one JSON object."""
        return asdict(self)


def schedule(campaign: Campaign, out: Path, *, workers: int | None = None) -> Schedule:
    """What is to do in a folder, timed with one deck without mismatch of each kind; nothing is written.

    Where L2 is asked for and not checked yet, the fast column is taken to pass.

    Raises:
        EngineMissingError: ngspice is not installed.
        InputError: The recipe is wrong, or a deck without mismatch does not run.
    """
    count = workers or usable_cores()
    engine = open_engine(campaign.recipe.engine)
    try:
        ready = prepared(campaign, out, engine.version)
        tasks = plan(campaign, engine.version, ready)
        seconds: dict[str, float] = {}
        for task in tasks:
            if circuit_of(task.point) not in seconds:
                seconds[circuit_of(task.point)] = _time_of(task.point, engine, campaign)
    finally:
        engine.close()
    planned = _points(campaign, tasks, SampleStore(out), ready, seconds, count)
    operating = [_operating(campaign, each, seconds["column"], count) for each in ready]
    left_s = sum(point.left_s for point in planned) + sum(each.left_s for each in operating)
    return Schedule(tuple(planned), count, left_s, tuple(operating))


def _points(
    campaign: Campaign,
    tasks: Sequence[Task],
    store: SampleStore,
    ready: Sequence[Prepared],
    seconds: dict[str, float],
    count: int,
) -> list[PlannedPoint]:
    samples: dict[str, int] = {}
    done: dict[str, int] = {}
    seen: dict[str, Task] = {}
    for task in tasks:
        label = f"{task.point.operating} {task.point.label}"
        here = task.stop - task.start
        first = seen.setdefault(label, task)
        samples[label] = samples.get(label, 0) + here
        done[label] = done.get(label, 0) + (here if store.has(task) else 0)
        assert first.point.operating == task.point.operating
    planned: list[PlannedPoint] = []
    keys: set[str] = set()
    for label, task in seen.items():
        point, wanted = task.point, samples[label]
        level, sample_s = "L0", seconds[circuit_of(point)]
        if isinstance(point, ColumnPoint) and (task.fast is not None or "fast" in ready[point.operating].waits):
            level, sample_s = "L2", FAST_SAMPLE_S
            wanted = campaign.recipe.column.samples
        # Operating points that differ in the word line alone share their comparators' samples.
        left = 0 if task.key in keys else wanted - done[label]
        keys.add(task.key)
        about = (point.label, wanted, done[label], sample_s, left * sample_s / count)
        planned.append(PlannedPoint(*about, point.operating, level))
    return planned


def _operating(campaign: Campaign, each: Prepared, column_s: float, count: int) -> PlannedOperating:
    rows = campaign.recipe.column.rows
    checks = CHECK_DRAWS * (len(checked_counts(rows)) + len(pairs_off(pairs_of(campaign), rows)))
    columns = {"bias": AUTO_COLUMNS, "fast": FAST_BUILD_COLUMNS + checks}
    left_s = sum(columns[name] * column_s for name in each.waits) / count
    level = "L2?" if "fast" in each.waits else each.level.level
    return PlannedOperating(str(each.point), level, each.waits, left_s, str(each.level.figures.get("l2_reason", "")))


def _time_of(point: Point, engine: Engine, campaign: Campaign) -> float:
    """Seconds of one sample, by its deck without mismatch; the first run is not counted (ngspice starts in it)."""
    took_s = math.inf
    for _ in range(2):
        began = time.perf_counter()
        (result,) = engine.run([point.nominal_deck()], timeout_s=campaign.recipe.timeout_s)
        took_s = min(took_s, time.perf_counter() - began)
        if isinstance(result, Failed):
            message = f"{point.label}, without mismatch: {result.reason}: {result.detail}"
            raise InputError(message, place=campaign.place, hint="cosim check FOLDER says more")
    return took_s * _decks(point)


def _decks(point: ColumnPoint | ComparatorPoint) -> int:
    """Decks of one sample: a comparator's offset takes both ends and a bisection."""
    if isinstance(point, ColumnPoint):
        return 1
    return 2 + max(0, math.ceil(math.log2(point.range_v / point.tolerance_v)))
