"""Operating points: the corner and the bias that a recipe's columns are read at, as a grid or as a list."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field

from cosim.campaign.places import at_key
from cosim.circuit.corner import Corner
from cosim.errors import InputError

Positive = Annotated[float, Field(gt=0)]
Bias = Positive | Literal["auto"]
"""A word-line voltage or a pulse; `auto` has a safe one found."""

QUANTITIES = ("process", "vdd_v", "temp_c", "word_line_v", "pulse_s")
"""What an operating point is, in the order of every table; the last two are the column's bias."""
BIAS = QUANTITIES[3:]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A grid: every combination of what is named; a quantity that is not named is that of [corner] or [column]."""

    process: tuple[str, ...] | None = None
    vdd_v: tuple[float, ...] | None = None
    temp_c: tuple[float, ...] | None = None
    word_line_v: tuple[Positive, ...] | None = None
    pulse_s: tuple[Positive, ...] | None = None


@dataclass(frozen=True, slots=True)
class PointEntry:
    """One operating point of a list; a quantity that is not named is that of [corner] or [column]."""

    process: str | None = None
    vdd_v: float | None = None
    temp_c: float | None = None
    word_line_v: Bias | None = None
    pulse_s: Bias | None = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where columns and comparators are simulated.

    Args:
        process: The process corner.
        vdd_v: Supply, in volts.
        temp_c: Temperature, in degrees Celsius.
        word_line_v: Word-line voltage of a selected row, in volts; `auto` until it is found.
        pulse_s: As in `ColumnBench`, in seconds; `auto` until it is found.
    """

    process: str
    vdd_v: float
    temp_c: float
    word_line_v: float | Literal["auto"]
    pulse_s: float | Literal["auto"]

    @property
    def corner(self) -> Corner:
        """Process corner, supply and temperature.

        Raises:
            InputError: A value is out of range.
        """
        return Corner(self.process, self.vdd_v, self.temp_c)

    @property
    def auto(self) -> tuple[str, ...]:
        """What is still to be found."""
        return tuple(name for name in BIAS if getattr(self, name) == "auto")

    def __str__(self) -> str:
        """The point in words.

        >>> str(OperatingPoint("ff", 0.9, -40.0, "auto", 150e-12))
        'ff 0.9 V -40 C, word line auto, pulse 150 ps'
        """
        word_line = "auto" if self.word_line_v == "auto" else f"{self.word_line_v:g} V"
        pulse = "auto" if self.pulse_s == "auto" else f"{1e12 * self.pulse_s:g} ps"
        return f"{self.process} {self.vdd_v:g} V {self.temp_c:g} C, word line {word_line}, pulse {pulse}"


def operating_points(
    base: OperatingPoint, sweep: Sweep | None, entries: Sequence[PointEntry]
) -> tuple[OperatingPoint, ...]:
    """The base with every combination of a grid, or with each entry of a list; the base alone without any.

    >>> tt = OperatingPoint("tt", 1.0, 27.0, 0.5, 150e-12)
    >>> [str(point)[:7] for point in operating_points(tt, Sweep(process=("ff", "ss"), vdd_v=(0.9, 1.1)), ())]
    ['ff 0.9 ', 'ff 1.1 ', 'ss 0.9 ', 'ss 1.1 ']
    """
    if sweep is not None:
        axes = _named(sweep)
        return tuple(replace(base, **dict(zip(axes, values, strict=True))) for values in product(*axes.values()))
    return tuple(replace(base, **_named(entry)) for entry in entries) or (base,)


def place_of(sweep: Sweep | None, entries: Sequence[PointEntry], index: int, quantity: str) -> tuple[str | int, ...]:
    """The key in the recipe that gives an operating point a quantity."""
    if sweep is not None and quantity in _named(sweep):
        return ("sweep", quantity)
    if index < len(entries) and quantity in _named(entries[index]):
        return ("point", index, quantity)
    return ("column", quantity) if quantity not in QUANTITIES[:3] else ("corner", quantity)


def check_sweep(text: str, place: str, sweep: Sweep | None, entries: Sequence[PointEntry]) -> None:
    """Refuse what contradicts itself, and values that no operating point would use.

    Args:
        text: The recipe's text.
        place: Its file.

    Raises:
        InputError: A grid and a list, a quantity or a value named twice, or one that nothing names; with the line.
    """
    written: dict[str, Any] = tomllib.loads(text)
    if sweep is not None and entries:
        with at_key(place, "sweep"):
            raise InputError("both [sweep] and [[point]], expected one of them")
    if sweep is not None:
        with at_key(place, "sweep"):
            if not _named(sweep):
                raise InputError("[sweep] names nothing", hint=f"expected {', '.join(QUANTITIES)}")
        _check_values(sweep, place)
    for quantity in QUANTITIES:
        table = "column" if quantity in BIAS else "corner"
        everywhere = sweep is not None and quantity in _named(sweep)
        everywhere = everywhere or (bool(entries) and all(quantity in _named(entry) for entry in entries))
        if everywhere and quantity in written.get(table, {}):
            with at_key(place, table, quantity):
                where = "[sweep]" if sweep is not None else "every [[point]]"
                raise InputError(f"{table}.{quantity} is named in {where} too", hint="leave one of them out")
        if table == "corner" and "corner" not in written and not everywhere:
            raise InputError(f"'corner' is missing, and nothing else names {quantity}", place=f"{place}:1:1")


def check_different(points: Sequence[OperatingPoint], place: str, *, listed: bool) -> None:
    """Refuse the same operating point twice.

    Raises:
        InputError: With the line of the second one.
    """
    for index, point in enumerate(points):
        if point in points[:index]:
            with at_key(place, *(("point", index) if listed else ("sweep",))):
                raise InputError(f"the operating point {point} is named twice")


def _check_values(sweep: Sweep, place: str) -> None:
    for quantity, values in _named(sweep).items():
        for index, value in enumerate(values):
            if value in values[:index]:
                with at_key(place, "sweep", quantity):
                    raise InputError(f"sweep.{quantity} names {value} twice")
        if not values:
            with at_key(place, "sweep", quantity):
                raise InputError(f"sweep.{quantity} names no value")


def _named(entry: Sweep | PointEntry) -> Mapping[str, Any]:
    """What an entry names."""
    values = {name: getattr(entry, name) for name in QUANTITIES}
    return {name: value for name, value in values.items() if value is not None}
