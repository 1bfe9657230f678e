"""What an engine is: decks in, measured values or a stated failure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from cosim.circuit.deck import Deck
from cosim.errors import InputError

FailureReason = Literal["timeout", "crash", "bad_deck", "no_convergence", "not_finite"]
EngineName = Literal["shared", "batch"]


@dataclass(frozen=True, slots=True)
class Measured:
    """The probes of a deck at its read-out times, in volts."""

    values: Float[np.ndarray, "probe time"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A deck that gave no values, and why; kept as data, never dropped."""

    reason: FailureReason
    detail: str


Result = Measured | Failed


@runtime_checkable
class Engine(Protocol):
    """Runs decks in ngspice; one circuit at a time, one thread."""

    @property
    def name(self) -> str:
        """The engine's name as it is stored in files."""
        ...

    @property
    def version(self) -> str:
        """The ngspice version that it runs."""
        ...

    def run(self, decks: Sequence[Deck], *, timeout_s: float) -> list[Result]:
        """The results in the order of the decks; each deck may take `timeout_s` seconds."""
        ...

    def close(self) -> None:
        """Stop the worker and remove its files; the engine may be used again afterwards."""
        ...


def open_engine(name: EngineName) -> Engine:
    """An engine by name: `shared` (PySpice's shared library in a worker) or `batch` (`ngspice -b`).

    Raises:
        EngineMissingError: ngspice is not installed, or older than this project needs.
    """
    if name == "shared":
        from cosim.spice.shared import SharedEngine

        return SharedEngine()
    if name == "batch":
        from cosim.spice.batch import BatchEngine

        return BatchEngine()
    raise InputError(f"no engine {name!r}", hint="shared or batch")


def read_out(
    time_s: Float[np.ndarray, " point"],
    waves: Float[np.ndarray, "probe point"],
    times_s: tuple[float, ...],
) -> Result:
    """Probe values at the read-out times, linearly interpolated between the simulator's time points.

    A run that ended before the last read-out time did not converge; a NaN or infinity is a failure too.
    """
    last_s = max(times_s)
    if time_s.size == 0 or time_s[-1] < last_s * (1 - 1e-9):
        reached = f"{time_s[-1]:.4g}" if time_s.size else "nothing"
        return Failed("no_convergence", f"the transient reached {reached} of {last_s:.4g} s")
    values = np.array([np.interp(times_s, time_s, wave) for wave in waves])
    if not np.isfinite(values).all():
        return Failed("not_finite", "a probe is NaN or infinite")
    return Measured(values)
