"""A deck: the complete text that ngspice runs, and what is read from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deck:
    """A self-contained netlist with its transient analysis, and its read-out.

    Args:
        text: The complete netlist; no includes; ends with `.end`.
        probes: Names of the saved nodes, lower case.
        times_s: When every probe is read, in seconds.
    """

    text: str
    probes: tuple[str, ...]
    times_s: tuple[float, ...]
