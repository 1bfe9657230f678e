"""Collects a campaign's samples, in any order and on any executor; goes on where an earlier run stopped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

from filelock import FileLock, Timeout

from cosim.campaign.points import circuit_of, key_of, points_of
from cosim.campaign.recipe import Campaign
from cosim.campaign.sampling import Samples, Task, run_task
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
    """

    done: int
    total: int
    fresh: int
    failed: int
    flipped: int
    seconds: float
    label: str
    failure: str = ""

    @property
    def rate(self) -> float:
        """Samples a second in this call."""
        return self.fresh / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Expected seconds to the end; infinite before the first sample."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


def plan(campaign: Campaign, engine_version: str) -> list[Task]:
    """The tasks of a campaign in their order; the same recipe gives the same tasks."""
    recipe = campaign.recipe
    tasks: list[Task] = []
    for point in points_of(campaign):
        key = key_of(point, recipe.seed, recipe.engine, engine_version)
        for start in range(0, point.samples, TASK_SAMPLES):
            stop = min(start + TASK_SAMPLES, point.samples)
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
    with _locked(out):
        store.sweep()
        tasks = plan(campaign, version)
        tally = _Tally(sum(task.stop - task.start for task in tasks))
        missing: list[Task] = []
        for task in tasks:
            samples = store.settled(task)
            if samples is None:
                missing.append(task)
            else:
                tally.add(samples)
        _check_decks(missing, campaign)
        yield from _simulate(missing, store, tally, executor, workers)
        if missing or not merged(store, campaign, tasks):
            merge(store, campaign, tasks, version)


class _Tally:
    """Counts what is on disk, task by task."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed, self.flipped = total, 0, 0, 0
        self._reasons: Counter[str] = Counter()
        self._details: dict[str, str] = {}

    def add(self, samples: Samples) -> None:
        """Count a task's samples."""
        status = samples.columns["status"]
        self.done += status.size
        self.failed += int((status > 1).sum())
        self.flipped += int((status == 1).sum())
        for text in samples.failures.values():
            reason, _, detail = text.partition(": ")
            if reason != "flipped":
                self._reasons[reason] += 1
                self._details.setdefault(reason, detail)

    def progress(self, fresh: int, seconds: float, label: str) -> Progress:
        """What is counted until now."""
        failure = ""
        if self._reasons:
            ((reason, count),) = self._reasons.most_common(1)
            failure = f"{count} {reason}: {self._details[reason]}"
        return Progress(self.done, self.total, fresh, self.failed, self.flipped, seconds, label, failure)


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


def _simulate(
    missing: list[Task], store: SampleStore, tally: _Tally, executor: Executor | None, workers: int | None
) -> Iterator[Progress]:
    began, fresh = time.monotonic(), 0
    yield tally.progress(0, 0.0, "starting")
    if not missing:
        return
    stop = threading.Event()
    if executor is None:
        pool: Executor = ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="ngspice")
        submit: Submit = lambda task: pool.submit(run_task, task, stopped=stop.is_set)  # noqa: E731
    else:
        pool, submit = executor, lambda task: executor.submit(run_task, task)
    try:
        with closing(_completed(missing, submit, lambda: _window(pool))) as completed:
            for samples in completed:
                store.save(samples)
                tally.add(samples)
                fresh += samples.task.stop - samples.task.start
                yield tally.progress(fresh, time.monotonic() - began, samples.task.point.label)
    finally:
        stop.set()
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)


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
