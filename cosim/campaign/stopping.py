"""When a point has enough samples: a standard error that the recipe asks for, on the first batches of each point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from cosim.campaign.moments import Moments, batches_of, moments
from cosim.campaign.points import ColumnPoint
from cosim.campaign.recipe import FEWEST_BATCHES, SamplingRecipe
from cosim.campaign.sampling import Samples, Task
from cosim.campaign.slopes import Place, volts_a_count

SIGNALS = ("bl", "blb", "difference")
"""What is sensed: each line and the first less the second."""

_GROWTH = 1.5
"""The most by which a point's tasks are multiplied from one round to the next: an early error is a rough guess."""

_FEWEST_GOOD = 8
"""Good samples without which there is no error to speak of."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Where collection at a point ended.

    Args:
        error_v: Standard error of each signal's mean, in volts; a column of one line has only `bl`.
        error_counts: The same in counts, as far as a count there makes a difference.
        reached: Whether the errors are what the recipe asks for; otherwise the samples are the most that it allows.
    """

    label: str
    samples: int
    error_v: Mapping[str, float]
    error_counts: Mapping[str, float]
    reached: bool

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


class Rounds:
    """The tasks of a campaign, round by round, and which of them count in the end.

    A column's point stops at the smallest number of tasks on which its errors are as asked for. What ran beyond it,
    because several tasks run at a time, does not count. So the result depends neither on workers nor on order.

    Args:
        tasks: All that may run, those of a point in the order of their samples.
        sampling: Without a standard error there is one round, of everything.
    """

    def __init__(self, tasks: Sequence[Task], sampling: SamplingRecipe) -> None:
        self._sampling = sampling
        self._places: dict[str, _Collected] = {}
        for task in tasks:
            self._places.setdefault(task.key, _Collected()).tasks.append(task)
        for place in self._places.values():
            stops = sampling.stops and isinstance(place.tasks[0].point, ColumnPoint)
            place.upto = min(FEWEST_BATCHES, len(place.tasks)) if stops else len(place.tasks)
            place.stop = None if stops else len(place.tasks)
        self._slopes: Mapping[str, Mapping[str, float]] = {}
        self._begun = False

    @property
    def total(self) -> int:
        """Samples that will count, as far as it is known: at points that go on the most that they may have."""
        ends = ((place.tasks, place.stop) for place in self._places.values())
        return sum(_size(tasks if stop is None else tasks[:stop]) for tasks, stop in ends)

    def next(self) -> list[Task]:
        """The tasks of the next round, all of whose samples `add` takes before the next call; empty at the end."""
        if self._begun:
            self._look()
        self._begun = True
        found = [place.tasks[place.looked : place.upto] for place in self._places.values()]
        for place in self._places.values():
            place.looked = place.upto
        return list(chain.from_iterable(found))

    def add(self, samples: Samples) -> None:
        """Take the samples of a task of this round."""
        place = self._places[samples.task.key]
        if place.stop is None:
            place.samples[samples.task.start] = samples

    def counts(self, task: Task) -> bool:
        """Whether a task counts; after the last round."""
        place = self._places[task.key]
        return place.stop is not None and task.start < place.tasks[place.stop - 1].stop

    def endings(self) -> tuple[Ending, ...]:
        """Where each point of the column ended; none where the recipe asks for no error."""
        return tuple(place.ending for place in self._places.values() if place.ending is not None)

    def _look(self) -> None:
        """Decide which points are done, and how many tasks the others get."""
        going = {key: place for key, place in self._places.items() if place.stop is None}
        if going and not self._slopes:
            self._slopes = volts_a_count([_place(key, each) for key, each in going.items()])
        for key, place in going.items():
            self._decide(place, self._slopes[key])

    def _decide(self, place: _Collected, slopes: Mapping[str, float]) -> None:
        """Go through the tasks that are new until the errors are as asked for."""
        excess = math.inf
        for count in range(place.decided + 1, place.upto + 1):
            if count < min(FEWEST_BATCHES, len(place.tasks)):
                continue
            errors = {name: each.mean_error for name, each in place.moments(count).items()}
            excess = max((error / self._wanted_v(name, slopes) for name, error in errors.items()), default=math.inf)
            if excess <= 1 or count == len(place.tasks):
                place.end(count, errors, slopes, excess <= 1)
                return
        place.decided = place.upto
        growth = min(_GROWTH, excess**2)
        place.upto = min(len(place.tasks), max(place.upto + 1, math.ceil(growth * place.upto)))

    def _wanted_v(self, signal: str, slopes: Mapping[str, float]) -> float:
        """The standard error asked for, in volts; next to nothing where a count makes no difference."""
        if self._sampling.standard_error_v is not None:
            return self._sampling.standard_error_v
        assert self._sampling.standard_error_counts is not None
        return max(self._sampling.standard_error_counts * slopes.get(signal, 0.0), 1e-12)


@dataclass(slots=True)
class _Collected:
    """A point's tasks and samples.

    Args:
        upto: Tasks asked for until now.
        looked: Tasks handed out.
        decided: Tasks on which, and on fewer, the errors were too large.
        stop: Tasks that count, once that is known.
    """

    tasks: list[Task] = field(default_factory=list[Task])
    samples: dict[int, Samples] = field(default_factory=dict[int, Samples])
    upto: int = 0
    looked: int = 0
    decided: int = 0
    stop: int | None = None
    ending: Ending | None = None

    def moments(self, count: int) -> dict[str, Moments]:
        """Each signal's moments on the first `count` tasks; none with too few good samples."""
        return signal_moments([self.samples[task.start] for task in self.tasks[:count]])

    def end(self, count: int, errors: Mapping[str, float], slopes: Mapping[str, float], reached: bool) -> None:
        """Note where the point ends, and forget its samples."""
        label, size = self.tasks[0].point.label, _size(self.tasks[:count])
        counts = {name: error / slopes[name] for name, error in errors.items() if slopes.get(name)}
        self.stop, self.ending = count, Ending(label, size, dict(errors), counts, reached)
        self.samples.clear()


def signal_moments(parts: Sequence[Samples]) -> dict[str, Moments]:
    """Moments of each line and of their difference, with controls, from tasks of one point; none with too few."""
    point = parts[0].task.point
    table = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    good = table["status"] == 0
    if good.sum() < _FEWEST_GOOD:
        return {}
    table = {name: values[good] for name, values in table.items()}
    batch = batches_of(table["sample"], point.batch, point.method)
    bl, blb = table["control_bl"].astype(float), table["control_blb"].astype(float)
    two = np.isfinite(table["blb_v"]).all()
    # Rows of either sign move the line of a column that has one.
    found = {"bl": moments(table["bl_v"], bl if two else np.hstack([bl, blb]), batch)}
    if two:
        found["blb"] = moments(table["blb_v"], blb, batch)
        found["difference"] = moments(table["bl_v"] - table["blb_v"], np.hstack([bl, blb]), batch)
    return found


def _place(key: str, collected: _Collected) -> Place:
    """A point with its means on its first tasks, the same however many ran."""
    point = collected.tasks[0].point
    assert isinstance(point, ColumnPoint)
    fewest = min(FEWEST_BATCHES, len(collected.tasks))
    return Place(key, point, {name: each.mean for name, each in collected.moments(fewest).items()})


def _size(tasks: Sequence[Task]) -> int:
    return sum(task.stop - task.start for task in tasks)
