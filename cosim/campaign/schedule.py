"""What a campaign will do: its points, how many samples are on disk, and how long the others take."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosim.campaign.collect import plan
from cosim.campaign.points import ColumnPoint, ComparatorPoint, Point, circuit_of
from cosim.campaign.recipe import Campaign
from cosim.campaign.store import SampleStore
from cosim.errors import InputError
from cosim.resources import usable_cores
from cosim.spice.engine import Engine, Failed, open_engine


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point: its samples, those on disk, and the seconds of one on one ngspice process."""

    label: str
    samples: int
    done: int
    sample_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """All points of a campaign, and the seconds that are left with so many ngspice processes."""

    points: tuple[PlannedPoint, ...]
    workers: int
    left_s: float

    def as_json(self) -> dict[str, Any]:
        """The schedule as one JSON object."""
        return asdict(self)


def schedule(campaign: Campaign, out: Path, *, workers: int | None = None) -> Schedule:
    """What is to do in a folder, timed with one deck without mismatch of each kind; nothing is written.

    Raises:
        EngineMissingError: ngspice is not installed.
        InputError: The recipe is wrong, or a deck without mismatch does not run.
    """
    count = workers or usable_cores()
    engine = open_engine(campaign.recipe.engine)
    try:
        tasks = plan(campaign, engine.version)
        store = SampleStore(out)
        points: dict[str, tuple[Point, int, int]] = {}
        for task in tasks:
            _, samples, done = points.get(task.point.label, (task.point, 0, 0))
            here = task.stop - task.start
            points[task.point.label] = (task.point, samples + here, done + (here if store.has(task) else 0))
        seconds: dict[str, float] = {}
        for point, _, _ in points.values():
            if circuit_of(point) not in seconds:
                seconds[circuit_of(point)] = _time_of(point, engine, campaign)
    finally:
        engine.close()
    planned = [
        PlannedPoint(label, samples, done, sample_s, (samples - done) * sample_s / count)
        for label, (point, samples, done) in points.items()
        for sample_s in (seconds[circuit_of(point)],)
    ]
    return Schedule(tuple(planned), count, sum(point.left_s for point in planned))


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
