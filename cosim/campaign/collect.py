"""Collects a campaign's samples, in any order and on any executor; goes on where an earlier run stopped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

from filelock import FileLock, Timeout

from cosim.campaign.points import circuit_of, key_of, points_of
from cosim.campaign.recipe import Campaign
from cosim.campaign.sampling import Samples, Task, run_task
from cosim.campaign.stopping import Rounds, Stopped
from cosim.campaign.store import SampleStore, merge, merged
from cosim.errors import InputError
from cosim.resources import usable_cores
from cosim.spice.engine import Failed, open_engine

TASK_SAMPLES = 16
"""Samples a task: about two seconds of work, which is what a kill can lose."""
WINDOW = 256
"""Fewest tasks under way: enough that no worker waits, few enough that a scheduler holds them easily (12 kB each)."""


@runtime_checkable
class Wide(Protocol):
    """An executor that knows how many tasks it runs at a time, which may change; a cluster is one."""

    @property
    def width(self) -> int:
        """Tasks at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection is.

    Args:
        done: Samples on disk, less those that are run again.
        fresh: Samples simulated by this call.
        failed: Samples of `done` without values.
        flipped: Samples of `done` with flipped cells.
        seconds: Since this call began.
        failure: The most frequent failure with its number and one of its details; empty without any.
        stopped: With the last one, where each point ended whose number of samples a standard error decided; `total`
            shrinks to it.
    """

    done: int
    total: int
    fresh: int
    failed: int
    flipped: int
    seconds: float
    label: str
    failure: str = ""
    stopped: tuple[Stopped, ...] = ()

    @property
    def rate(self) -> float:
        """Samples a second in this call."""
        return self.fresh / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Expected seconds to the end; infinite before the first sample."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


def plan(campaign: Campaign, engine_version: str) -> list[Task]:
    """The tasks of a campaign in their order; the same recipe gives the same tasks.

    Where a standard error ends the collection, these are all that there may be.
    """
    recipe = campaign.recipe
    tasks: list[Task] = []
    for point in points_of(campaign):
        key = key_of(point, recipe.seed, recipe.engine, engine_version)
        size = TASK_SAMPLES if point.method == "random" else point.batch
        for start in range(0, point.samples, size):
            stop = min(start + size, point.samples)
            run = (recipe.engine, recipe.timeout_s, engine_version)
            tasks.append(Task(point, key, recipe.seed, start, stop, *run))
    return tasks


def collect(
    campaign: Campaign, out: Path, *, executor: Executor | None = None, workers: int | None = None
) -> Iterator[Progress]:
    """Simulate what is missing in `out` and merge it into `out/samples.h5`; yields after each task.

    A killed run loses the tasks that were under way and nothing else. The samples depend on the recipe and the
    circuits alone: not on the executor, the number of workers or the order of completion. However many tasks are
    missing, no more than a window of them is handed to the executor at a time.

    Timeouts and crashes may be the machine's doing: the next run simulates their tasks again, and this one takes
    them as they are.

    Args:
        executor: Runs the tasks; by default threads that each drive one ngspice process. `open_cluster` gives one
            for many machines.
        workers: Threads of the default executor; by default one a core.

    Raises:
        EngineMissingError: ngspice is not installed.
        InputError: The folder cannot be written, another run is at work in it, no worker is asked for, or ngspice
            refuses the deck of a circuit without mismatch.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers = {workers}, expected at least 1")
    engine = open_engine(campaign.recipe.engine)
    version = engine.version
    engine.close()
    store = SampleStore(out)
    with _locked(out), closing(_Pool(executor, workers)) as pool:
        store.sweep()
        rounds = Rounds(plan(campaign, version), campaign.recipe.sampling)
        tally = _Tally(rounds)
        begun = False
        for tasks in iter(rounds.next, []):
            missing = [task for task in tally.round(tasks) if not tally.take(store.settled(task))]
            if not begun:
                _check_decks(missing, campaign)
                tally.begin()
                yield tally.progress("starting")
            begun = True
            for samples in pool.completed(missing):
                store.save(samples)
                tally.take(samples, fresh=True)
                yield tally.progress(samples.task.point.label)
        chosen, stopped = rounds.chosen(), rounds.stopped()
        if stopped:
            yield tally.end(chosen, stopped)
        if tally.fresh or not merged(store, campaign, chosen):
            merge(store, campaign, chosen, version, stopped)


class _Tally:
    """Counts what is on disk, task by task, and hands it to the rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self.fresh = 0
        self._rounds, self._began = rounds, time.monotonic()
        self._counts: dict[tuple[str, int], _Count] = {}
        self._sum, self._total = _Count(), 0

    def round(self, tasks: list[Task]) -> list[Task]:
        """The tasks of a round, after which the total may have shrunk."""
        self._total = self._rounds.total
        return tasks

    def take(self, samples: Samples | None, *, fresh: bool = False) -> bool:
        """Count a task's samples; False where there are none."""
        if samples is None:
            return False
        count = self._counts[samples.task.key, samples.task.start] = _Count.of(samples)
        self._sum = self._sum.plus(count)
        self._rounds.add(samples)
        self.fresh += count.done if fresh else 0
        return True

    def begin(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def progress(self, label: str) -> Progress:
        """What is counted until now."""
        seconds = time.monotonic() - self._began if self.fresh else 0.0
        return self._progress(self._sum, max(self._total, self._sum.done), seconds, label)

    def end(self, tasks: list[Task], stopped: tuple[Stopped, ...]) -> Progress:
        """What is counted of the tasks that count."""
        counted = _Count()
        for task in tasks:
            counted = counted.plus(self._counts[task.key, task.start])
        ended = self._progress(counted, counted.done, time.monotonic() - self._began, "stopped")
        return replace(ended, stopped=stopped)

    def _progress(self, count: _Count, total: int, seconds: float, label: str) -> Progress:
        return Progress(count.done, total, self.fresh, count.failed, count.flipped, seconds, label, count.failure)


@dataclass(frozen=True, slots=True)
class _Count:
    """Some tasks in numbers; the reasons of failures with how many, and one detail of each."""

    done: int = 0
    failed: int = 0
    flipped: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict[str, int])
    details: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, samples: Samples) -> _Count:
        """A task's."""
        status = samples.columns["status"]
        texts = [text.partition(": ") for text in samples.failures.values()]
        reasons = Counter(reason for reason, _, _ in texts if reason != "flipped")
        details = {reason: detail for reason, _, detail in reversed(texts)}
        return cls(status.size, int((status > 1).sum()), int((status == 1).sum()), reasons, details)

    def plus(self, other: _Count) -> _Count:
        """Both; of the details the first."""
        sums = (self.done + other.done, self.failed + other.failed, self.flipped + other.flipped)
        if not other.reasons:
            return _Count(*sums, self.reasons, self.details)
        return _Count(*sums, Counter(self.reasons) + Counter(other.reasons), {**other.details, **self.details})

    @property
    def failure(self) -> str:
        """The most frequent failure with its number and its detail; empty without any."""
        if not self.reasons:
            return ""
        ((reason, count),) = Counter(self.reasons).most_common(1)
        return f"{count} {reason}: {self.details[reason]}"


def _check_decks(missing: list[Task], campaign: Campaign) -> None:
    """Refuse a netlist that ngspice does not take, before every sample of it fails."""
    points = {circuit_of(task.point): task.point for task in reversed(missing)}
    if not points:
        return
    engine = open_engine(campaign.recipe.engine)
    try:
        for point in points.values():
            (result,) = engine.run([point.nominal_deck()], timeout_s=campaign.recipe.timeout_s)
            if isinstance(result, Failed) and result.reason == "bad_deck":
                message = f"ngspice refuses {point.label}: {result.detail}"
                raise InputError(message, place=campaign.place, hint="cosim check FOLDER says more")
    finally:
        engine.close()


class _Pool:
    """Runs tasks on an executor, or on threads of its own that each drive one ngspice process."""

    def __init__(self, executor: Executor | None, workers: int | None) -> None:
        self._given, self._workers = executor, workers
        self._own: ThreadPoolExecutor | None = None
        self._stop = threading.Event()

    def completed(self, tasks: list[Task]) -> Generator[Samples]:
        """The samples of tasks as they complete."""
        if not tasks:
            return
        if self._given is not None:
            given = self._given
            submit: Submit = lambda task: given.submit(run_task, task)  # noqa: E731
            pool: Executor = given
        else:
            if self._own is None:
                self._own = ThreadPoolExecutor(self._workers or usable_cores(), thread_name_prefix="ngspice")
            own = pool = self._own
            submit = lambda task: own.submit(run_task, task, stopped=self._stop.is_set)  # noqa: E731
        with closing(_completed(tasks, submit, lambda: _window(pool))) as completed:
            yield from completed

    def close(self) -> None:
        """Stop what is under way, and wait for it."""
        self._stop.set()
        if self._own is not None:
            self._own.shutdown(wait=True, cancel_futures=True)


Submit = Callable[[Task], Future[Samples]]


def _completed(tasks: list[Task], submit: Submit, window: Callable[[], int]) -> Generator[Samples]:
    """The samples of all tasks as they complete; when it is closed or fails, what is under way is cancelled."""
    left = iter(tasks)
    running: set[Future[Samples]] = set()
    finished: SimpleQueue[Future[Samples]] = SimpleQueue()
    try:
        while True:
            for task in islice(left, max(0, window() - len(running))):
                future = submit(task)
                running.add(future)
                future.add_done_callback(finished.put)
            if not running:
                return
            future = finished.get()
            running.remove(future)
            yield future.result()
    finally:
        for future in running:
            future.cancel()


def _window(executor: Executor) -> int:
    """How many tasks may be under way: two a worker, so that it finds the next one waiting."""
    return max(WINDOW, 2 * executor.width) if isinstance(executor, Wide) else WINDOW


@contextmanager
def _locked(out: Path) -> Generator[None]:
    lock = FileLock(out / ".lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        hint = "wait for it, or choose another folder"
        raise InputError("another run is at work in this folder", place=str(out), hint=hint) from error
    except OSError as error:
        raise InputError(f"cannot write here: {error.strerror or error}", place=str(out)) from error
    try:
        yield
    finally:
        lock.release()
