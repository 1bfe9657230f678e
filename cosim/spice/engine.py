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


def no_result(said: Sequence[str]) -> Failed:
    """The failure of a deck that left no transient, from the lines that ngspice said.

    A deck that was refused is bad; one whose operating point or first steps failed did not converge.

    >>> no_result(["Note: 3 devices", "doAnalyses: TRAN:  Timestep too small"]).reason
    'no_convergence'
    """
    lines = [line.strip() for line in said if line.strip()]
    wrong = [i for i, line in enumerate(lines) if any(sign in line.lower() for sign in _COMPLAINTS)]
    # "Error on line 3 or its substitute:" is followed by the line itself.
    wrong += [i + 1 for i in wrong if lines[i].endswith(":")]
    told = " ".join(lines[i] for i in sorted(set(wrong))[-4:] if i < len(lines))
    began = any(sign in line.lower() for line in lines for sign in _RUNNING)
    return Failed("no_convergence" if began else "bad_deck", told[:400] or "ngspice ran no transient")


_RUNNING = ("doanalyses", "too small", "singular matrix", "gmin step", "source step")
"""What ngspice says only once it took the deck and tried to solve it."""
_COMPLAINTS = ("error", *_RUNNING)


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
