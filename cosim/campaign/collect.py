"""Collects a campaign's samples, in any order and on any executor; goes on where an earlier run stopped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Protocol, TypeVar, runtime_checkable

from filelock import FileLock, Timeout

from cosim.campaign.points import ColumnPoint, Point, circuit_of, points_of
from cosim.campaign.prepare import Prepared, pairs_of, prepare, prepared
from cosim.campaign.recipe import Campaign
from cosim.campaign.sampling import Samples, Task, run_task
from cosim.campaign.store import SampleStore, merge, merged
from cosim.errors import InputError
from cosim.resources import usable_cores
from cosim.spice.engine import Failed, open_engine

TASK_SAMPLES = 16
"""Samples a task: about two seconds of work, which is what a kill can lose."""
FAST_TASK_SAMPLES = 1024
"""The same where the fast column reads: a tenth of a second of work."""
SAMPLES_L0 = 256
"""With level L2, samples a count where the full circuit is used, if the recipe does not say."""
WINDOW = 256
"""Fewest tasks under way: enough that no worker waits, few enough that a scheduler holds them easily (12 kB each)."""


T = TypeVar("T")
R = TypeVar("R")


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
        seconds: Since this stage began.
        failure: The most frequent failure with its number and one of its details; empty without any.
        stage: What is counted: samples, or before them the operating points that have their bias and fast column.
        told: What a person should be told, one line; empty where there is nothing new.
    """

    done: int
    total: int
    fresh: int
    failed: int
    flipped: int
    seconds: float
    label: str
    failure: str = ""
    stage: Literal["points", "samples"] = "samples"
    told: str = ""

    @property
    def rate(self) -> float:
        """Samples a second in this call."""
        return self.fresh / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float:
        """Expected seconds to the end; infinite before the first sample."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


def plan(campaign: Campaign, engine_version: str, ready: Sequence[Prepared] | None = None) -> list[Task]:
    """The tasks of a campaign in their order; the same recipe gives the same tasks.

    Args:
        ready: The operating points as `prepare` gave them; without them as the recipe has them, in the full circuit.
    """
    recipe = campaign.recipe
    tasks: list[Task] = []
    for point in points_of(campaign, None if ready is None else [each.point for each in ready]):
        fast, samples, size = None, point.samples, TASK_SAMPLES
        if isinstance(point, ColumnPoint) and recipe.column.level == "L2":
            fast = None if ready is None else ready[point.operating].level.fast_at((point.n_minus, point.n_plus))
            size = TASK_SAMPLES if fast is None else FAST_TASK_SAMPLES
            samples = min(samples, recipe.column.samples_l0 or SAMPLES_L0) if fast is None else samples
        run = (recipe.engine, recipe.timeout_s, engine_version, fast)
        first = Task(replace(point, samples=samples), "", recipe.seed, 0, 0, *run)
        first = replace(first, key=first.own_key(engine_version))
        tasks += [replace(first, start=start, stop=min(start + size, samples)) for start in range(0, samples, size)]
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
        ready = yield from _prepare(campaign, out, version, pool)
        tasks = plan(campaign, version, ready)
        # Comparators know no word line: where only that differs, operating points share their samples.
        different = list({(task.key, task.start, task.stop): task for task in reversed(tasks)}.values())[::-1]
        tally = _Tally(sum(task.stop - task.start for task in different))
        missing: list[Task] = []
        for task in different:
            samples = store.settled(task)
            if samples is None:
                missing.append(task)
            else:
                tally.add(samples)
        _check_decks([task.point for task in missing if task.fast is None], campaign)
        yield from _simulate(missing, store, tally, pool)
        if missing or not merged(store, campaign, tasks):
            merge(store, campaign, tasks, version, ready)


def _prepare(
    campaign: Campaign, out: Path, version: str, pool: _Pool
) -> Generator[Progress, None, tuple[Prepared, ...]]:
    """Find each operating point's bias and fast column, as far as the recipe asks for them."""
    ready = prepared(campaign, out, version)
    pairs, total = pairs_of(campaign), len(ready)
    done = sum(not each.waits for each in ready)
    if done < total:
        _check_decks(list(points_of(campaign)), campaign)
        yield Progress(done, total, 0, 0, 0, 0.0, "bias and fast columns", stage="points")
    for each in ready:
        if not each.waits and each.level.figures.get("l2_reason"):
            yield Progress(done, total, 0, 0, 0, 0.0, "", stage="points", told=each.describe(pairs))
    began = time.monotonic()
    with closing(prepare(campaign, out, version, ready, pool.run)) as steps:
        for each in steps:
            done += not each.waits
            seconds, told = time.monotonic() - began, each.describe(pairs)
            yield Progress(done, total, 0, 0, 0, seconds, str(each.point), stage="points", told=told)
    return prepared(campaign, out, version)


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


def _check_decks(points: Sequence[Point], campaign: Campaign) -> None:
    """Refuse a netlist that ngspice does not take, before every sample of it fails; once a circuit and corner."""
    first = {(circuit_of(point), point.bench.corner.process): point for point in reversed(points)}
    if not first:
        return
    engine = open_engine(campaign.recipe.engine)
    try:
        for point in first.values():
            (result,) = engine.run([point.nominal_deck()], timeout_s=campaign.recipe.timeout_s)
            if isinstance(result, Failed) and result.reason == "bad_deck":
                message = f"ngspice refuses {point.label}: {result.detail}"
                raise InputError(message, place=campaign.place, hint="cosim check FOLDER says more")
    finally:
        engine.close()


def _simulate(missing: list[Task], store: SampleStore, tally: _Tally, pool: _Pool) -> Iterator[Progress]:
    began, fresh = time.monotonic(), 0
    left = Counter(task.point.at for task in missing)
    yield tally.progress(0, 0.0, "starting")
    with closing(pool.run(missing, run_task)) as completed:
        for task, samples in completed:
            store.save(samples)
            tally.add(samples)
            fresh += task.stop - task.start
            left[task.point.at] -= 1
            progress = tally.progress(fresh, time.monotonic() - began, task.point.label)
            told = f"{task.point.at}: all samples are there" if task.point.at and not left[task.point.at] else ""
            yield replace(progress, told=told)


class _Pool:
    """Where tasks run: the caller's executor, or threads that each drive one ngspice process."""

    def __init__(self, executor: Executor | None, workers: int | None) -> None:
        self._stop = threading.Event()
        self._own = executor is None
        self._workers = workers or usable_cores()
        self._executor = executor or ThreadPoolExecutor(self._workers, thread_name_prefix="ngspice")

    def run(self, tasks: Sequence[T], fn: Callable[..., R]) -> Generator[tuple[T, R]]:
        """Each task with the function's result, as they complete; closing it cancels what is under way."""
        call = partial(fn, stopped=self._stop.is_set) if self._own else fn
        try:
            yield from _completed(tasks, lambda task: self._executor.submit(call, task), self._window)
        except BaseException:
            self._stop.set()
            raise

    def close(self) -> None:
        """Stop what is under way; an executor of the caller's goes on."""
        self._stop.set()
        if self._own:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def _window(self) -> int:
        """How many tasks may be under way: two a worker, so that it finds the next one waiting."""
        wide = isinstance(self._executor, Wide)
        return max(WINDOW, 2 * self._executor.width) if wide else WINDOW  # pyright: ignore


def _completed(
    tasks: Sequence[T], submit: Callable[[T], Future[R]], window: Callable[[], int]
) -> Generator[tuple[T, R]]:
    """All tasks with their results as they complete; when it is closed or fails, what is under way is cancelled."""
    left = iter(tasks)
    running: dict[Future[R], T] = {}
    finished: SimpleQueue[Future[R]] = SimpleQueue()
    try:
        while True:
            for task in islice(left, max(0, window() - len(running))):
                future = submit(task)
                running[future] = task
                future.add_done_callback(finished.put)
            if not running:
                return
            future = finished.get()
            yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


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
