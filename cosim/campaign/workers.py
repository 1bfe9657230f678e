"""The engine of a worker's thread, and tasks that end when nobody wants them any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

from cosim.circuit.deck import Deck
from cosim.errors import InputError
from cosim.spice.engine import Engine, EngineName, Result

Open = Callable[[EngineName], Engine]
Stopped = Callable[[], bool]

_local = threading.local()


def never() -> bool:
    """What a task is told that nobody stops."""
    return False


def engine_here(name: EngineName, version: str, open_: Open) -> Engine:
    """This thread's own engine, which is kept for the next task.

    Raises:
        InputError: The ngspice here is of another version than the task's key stands for.
    """
    engines: dict[object, Engine] = _local.__dict__.setdefault("engines", {})
    if (name, open_) not in engines:
        engines[name, open_] = open_(name)
    engine = engines[name, open_]
    if engine.version != version:
        hint = "install the same ngspice wherever tasks run"
        raise InputError(f"ngspice {engine.version}, expected {version} as where cosim runs", hint=hint)
    return engine


class Stoppable:
    """An engine that asks between two decks whether to go on, and runs each for at most `timeout_s`."""

    def __init__(self, engine: Engine, stopped: Stopped) -> None:
        self._engine, self._stopped = engine, stopped

    @property
    def name(self) -> str:
        """The engine's."""
        return self._engine.name

    @property
    def version(self) -> str:
        """The engine's."""
        return self._engine.version

    def run(self, decks: Sequence[Deck], *, timeout_s: float) -> list[Result]:
        """The results in the order of the decks.

        Raises:
            CancelledError: `stopped` said so; what was simulated is lost.
        """
        results: list[Result] = []
        for deck in decks:
            if self._stopped():
                raise CancelledError
            results += self._engine.run([deck], timeout_s=timeout_s)
        return results

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
