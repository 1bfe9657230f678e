"""Collects a campaign's samples, in any order and on any executor; goes on where an earlier run stopped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Protocol, TypeVar, runtime_checkable

from filelock import FileLock, Timeout

from cosim.campaign.design import BATCH, batch_of
from cosim.campaign.points import ColumnPoint, Point, circuit_of, points_of
from cosim.campaign.prepare import Prepared, pairs_of, prepare, prepared
from cosim.campaign.recipe import Campaign
from cosim.campaign.sampling import Samples, Task, run_task
from cosim.campaign.stopping import Ending, Rounds
from cosim.campaign.store import SampleStore, merge, merged
from cosim.errors import InputError
from cosim.resources import usable_cores
from cosim.spice.engine import Failed, open_engine

TASK_SAMPLES = 16
"""Samples a task: about two seconds of work, which is what a kill can lose."""
FAST_TASK_SAMPLES = 1024
"""The same where the fast column reads: a tenth of a second of work."""
FAST_BATCH = 256
"""Samples of one point set where the fast column reads."""
SAMPLES_L0 = 256
"""With level L2, samples a count where the full circuit is used, if the recipe does not say."""
WINDOW = 256
"""Fewest tasks under way: enough that no worker waits, few enough that a scheduler holds them: 12 kB each,
235 kB where a fast column goes with it."""


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
        endings: With the last one, where each point ended whose number of samples a standard error decided; `total`
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
    stage: Literal["points", "samples"] = "samples"
    told: str = ""
    endings: tuple[Ending, ...] = ()

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

    Where a standard error ends the collection, these are all that there may be.

    Args:
        ready: The operating points as `prepare` gave them; without them as the recipe has them, in the full circuit.
    """
    recipe = campaign.recipe
    tasks: list[Task] = []
    for point in points_of(campaign, None if ready is None else [each.point for each in ready]):
        fast, size = None, TASK_SAMPLES
        if isinstance(point, ColumnPoint) and recipe.column.level == "L2":
            fast = None if ready is None else ready[point.operating].level.fast_at((point.n_minus, point.n_plus))
            if fast is None:
                samples = min(point.samples, recipe.column.samples_l0 or SAMPLES_L0)
                point = replace(point, samples=samples, batch=batch_of(samples, BATCH))
            else:
                point = replace(point, batch=batch_of(point.samples, FAST_BATCH))
                size = point.batch if recipe.sampling.stops and point.method != "random" else FAST_TASK_SAMPLES
        run = (recipe.engine, recipe.timeout_s, engine_version, fast)
        first = Task(point, "", recipe.seed, 0, 0, *run)
        first = replace(first, key=first.own_key(engine_version))
        stops = ((start, min(start + size, point.samples)) for start in range(0, point.samples, size))
        tasks += [replace(first, start=start, stop=stop) for start, stop in stops]
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
        rounds = Rounds(different, campaign.recipe.sampling)
        tally = _Tally(rounds)
        yield from _simulate(campaign, store, tally, pool)
        chosen, endings = [task for task in tasks if rounds.counts(task)], rounds.endings()
        if endings:
            yield tally.end(different, endings)
        if tally.fresh or not merged(store, campaign, chosen):
            merge(store, campaign, chosen, version, ready, endings)


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
    """Counts what is on disk, task by task, and hands it to the rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self.fresh = 0
        self._rounds, self._began = rounds, time.monotonic()
        self._counts: dict[tuple[str, int], _Count] = {}
        self._sum, self._total = _Count(), 0

    def rounds(self) -> Iterator[list[Task]]:
        """The tasks of each round, before which the total may have shrunk."""
        for tasks in iter(self._rounds.next, []):
            self._total = self._rounds.total
            yield tasks

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

    def end(self, tasks: list[Task], endings: tuple[Ending, ...]) -> Progress:
        """What is counted of those tasks that count."""
        counted = _Count()
        for task in filter(self._rounds.counts, tasks):
            counted = counted.plus(self._counts[task.key, task.start])
        ended = self._progress(counted, counted.done, time.monotonic() - self._began, "stopped")
        return replace(ended, endings=endings)

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


def _simulate(campaign: Campaign, store: SampleStore, tally: _Tally, pool: _Pool) -> Iterator[Progress]:
    """Simulate what is missing, round by round."""
    begun = False
    for tasks in tally.rounds():
        missing = [task for task in tasks if not tally.take(store.settled(task))]
        if not begun:
            _check_decks([task.point for task in missing if task.fast is None], campaign)
            tally.begin()
            yield tally.progress("starting")
        begun = True
        left = Counter(task.point.at for task in missing)
        with closing(pool.run(missing, run_task)) as completed:
            for task, samples in completed:
                store.save(samples)
                tally.take(samples, fresh=True)
                left[task.point.at] -= 1
                at = task.point.at if not campaign.recipe.sampling.stops else ""
                told = f"{at}: all samples are there" if at and not left[at] else ""
                yield replace(tally.progress(task.point.label), told=told)


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
