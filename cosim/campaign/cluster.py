"""Runs a campaign's tasks on a Dask cluster: connects, refuses workers that differ, and stops what nobody waits for.

Dask sends tasks and results as pickles, so a cluster and who connects to it trust each other. What a task holds of a
netlist is text in our own frozen dataclasses, and a worker guards it again.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from cosim.campaign.auto_bias import BiasTask
from cosim.campaign.fast_level import FastTask
from cosim.campaign.points import ColumnPoint, Point
from cosim.campaign.sampling import Task
from cosim.circuit.guard import check_text
from cosim.circuit.process import Process
from cosim.errors import CosimError, InputError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""
WIDTH_EVERY_S = 5.0
"""How old the known number of workers may be."""
R = TypeVar("R")
AnyTask = Task | BiasTask | FastTask
A = TypeVar("A", Task, BiasTask, FastTask)


@dataclass(frozen=True, slots=True)
class Versions:
    """What must be the same wherever tasks run; ngspice's version is checked with each task."""

    cosim: str
    numpy: str
    scipy: str

    def __str__(self) -> str:
        return f"cosim {self.cosim}, numpy {self.numpy} and scipy {self.scipy}"


class ClusterExecutor(Executor):
    """A Dask cluster as an executor of tasks; `open_cluster` makes one.

    It runs functions of a task that take a keyword `stopped`, as `run_task`, `run_bias` and `run_fast` do.
    """

    def __init__(self, client: Client, address: str) -> None:
        self.address = address
        # A client of another thread's event loop answers directly, which its annotations leave open.
        self._client: Any = client
        # Each submission is a task of its own: Dask need not hash netlists to find equal ones.
        self._executor = client.get_executor(pure=False)
        self._versions = versions()
        self._width, self._width_at_s = 0, -WIDTH_EVERY_S

    @property
    def width(self) -> int:
        """Threads of all workers, as of a few seconds ago; each runs one task at a time."""
        if time.monotonic() - self._width_at_s >= WIDTH_EVERY_S:
            self._width = sum(self._client.nthreads().values())
            self._width_at_s = time.monotonic()
        return self._width

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Run `fn(task)` on some worker, after the worker's versions and the task's netlists were checked there."""
        (task,) = args
        import cloudpickle

        # Unpacked inside the Dask task: a worker without cosim then fails the task, and does not die of its message.
        packed = cloudpickle.dumps(_Call((self._versions, partial(fn, **kwargs), _light(task))))
        return self._executor.submit(pickle.loads, packed)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what was submitted, or cancel it; the cluster goes on."""
        self._executor.shutdown(wait=wait and not cancel_futures)

    def check_workers(self) -> int:
        """Compare versions with the workers that are there; how many they are.

        Raises:
            InputError: A worker is of another version, or cannot run cosim.
        """
        found: dict[str, object] = self._client.run(versions, on_error="return")
        for worker, theirs in found.items():
            if isinstance(theirs, Exception):
                hint = f"install {self._versions} on every worker"
                raise InputError(f"cannot run cosim: {theirs}", place=f"worker {worker}", hint=hint)
            if theirs != self._versions:
                raise _other(theirs, self._versions, worker)
        return len(found)


@contextmanager
def open_cluster(address: str, *, timeout_s: float = CONNECT_S) -> Generator[ClusterExecutor]:
    """An executor on the Dask cluster at an address such as "tcp://10.0.0.1:8786"; leaving it cancels what is left.

        with open_cluster("tcp://10.0.0.1:8786") as executor:
            cosim.characterize("xnor_8t", "quick", out="runs/a", executor=executor)

    Raises:
        InputError: Dask is missing, the address does not answer in time, a worker is of another version, or the
            cluster is lost while it is at work.
    """
    client = _connected(address, timeout_s)
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        executor = ClusterExecutor(client, address)
        executor.check_workers()
        yield executor
    except KilledWorker as error:
        message = f"{error.allowed_failures + 1} workers died of one task, the last at {error.last_worker.address}"
        raise InputError(
            message, place=address, hint="is their memory too small? the workers' logs say more"
        ) from error
    except (CancelledError, CommClosedError) as error:
        hint = "what was simulated is kept; run the same command again to go on"
        raise InputError("the connection to the cluster was lost", place=address, hint=hint) from error
    except ImportError as error:
        hint = f"install {versions()} on every worker"
        raise InputError(f"a worker cannot run cosim: {error}", place=address, hint=hint) from error
    finally:
        client.close(timeout=timeout_s)


def versions() -> Versions:
    """The versions here."""
    return Versions(*(metadata.version(name) for name in ("cosim", "numpy", "scipy")))


def check_task(task: AnyTask, engine_version: str) -> None:
    """Guard a task's netlists as they stand in its deck, and see that this cosim would make the same deck.

    The deck without mismatch stands for all of the task: the others differ in numbers that we write.

    Raises:
        InputError: The task's key is another one here.
        UnsafeError: The deck holds what the guard refuses.
    """
    check_text(task.point.nominal_deck().text, place=f"the deck of {task.point.label}", bench=True)
    if task.own_key(engine_version) != task.key:
        hint = "install the same cosim wherever tasks run"
        raise InputError("this cosim makes other samples of the same task", hint=hint)


# --- On a worker ---


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of `_on_worker`, which happens when the pickle of this is loaded."""

    arguments: tuple[object, ...]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _on_worker, self.arguments


def _on_worker(expected: Versions, fn: Callable[..., R], task: AnyTask) -> R:
    from distributed import get_worker

    here = get_worker().address
    if versions() != expected:
        raise _other(versions(), expected, here)
    try:
        check_task(task, task.engine_version)
        return fn(task, stopped=_unwanted)
    except CosimError as error:
        place = f"worker {here}" + (f": {error.place}" if error.place else "")
        raise type(error)(error.message, place=place, hint=error.hint) from error


def _unwanted() -> bool:
    """Whether this thread's task was cancelled, or its client has gone."""
    from distributed import get_worker

    worker = get_worker()
    state = worker.state.tasks.get(worker.get_current_task())
    return state is None or state.state == "cancelled"


def _other(theirs: object, expected: Versions, worker: str) -> InputError:
    hint = "install the same versions on every worker"
    return InputError(f"has {theirs}, expected {expected} as where cosim runs", place=f"worker {worker}", hint=hint)


# --- Here ---


def _light(task: A) -> A:
    """The task without the model cards of other corners: a real kit has a hundred kilobytes for each."""
    bench = task.point.bench
    corner = bench.corner.process
    process = replace(bench.process, models={corner: bench.process.corner_text(corner)})
    return replace(task, point=_on(task.point, process))


def _on(point: Point, process: Process) -> Point:
    # The two kinds of points have benches of their own types.
    if isinstance(point, ColumnPoint):
        return replace(point, bench=replace(point.bench, process=process))
    return replace(point, bench=replace(point.bench, process=process))


def _connected(address: str, timeout_s: float) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        hint = f"install {versions()} on every worker"
        raise InputError("a cluster needs Dask", hint="pip install 'cosim[cluster]'") from error
    hint = "expected a Dask scheduler that is running, such as tcp://10.0.0.1:8786"
    try:
        # In a thread: a notebook's own event loop runs in this one.
        with ThreadPoolExecutor(1) as thread:
            kind = thread.submit(asyncio.run, _kind_at(address, timeout_s)).result()
    except (TimeoutError, OSError) as error:
        raise InputError(f"no answer within {timeout_s:g} s", place=address or "--cluster", hint=hint) from error
    except Exception as error:  # What is no scheduler may answer anything.
        raise InputError(f"no scheduler: {error}", place=address or "--cluster", hint=hint) from error
    if kind != "Scheduler":
        raise InputError(f"a Dask {kind} and no scheduler", place=address, hint=hint)
    return Client(address, timeout=timeout_s, set_as_default=False)


async def _kind_at(address: str, timeout_s: float) -> str:
    """What answers at an address; asked before there is a client, which is slow to give up."""
    from distributed import Security
    from distributed.core import rpc

    remote: Any = rpc(address, connection_args=Security().get_connection_args("client"))
    try:
        return str((await asyncio.wait_for(remote.identity(), timeout_s))["type"])
    finally:
        await remote.close_rpc()
