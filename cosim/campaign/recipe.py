"""Recipes: what to simulate, as TOML; and the campaign that one names, with its circuits loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cosim import resources
from cosim.campaign.design import BATCH, Method
from cosim.campaign.places import at_key
from cosim.campaign.sweep import (
    Bias,
    OperatingPoint,
    PointEntry,
    Sweep,
    check_different,
    check_sweep,
    operating_points,
    place_of,
)
from cosim.circuit.amplifier import SenseAmplifier, load_amplifier
from cosim.circuit.cell import Cell, load_cell
from cosim.circuit.corner import Corner
from cosim.circuit.process import Process, load_process
from cosim.config import load_toml
from cosim.errors import InputError
from cosim.spice.engine import EngineName

FEWEST_COUNTS = 6
"""Different counts of pulling rows, on either line, that a fit needs."""

FEWEST_BATCHES = 4
"""Batches at a point before its standard error is looked at."""

LARGEST_SEED = 2**63 - 1
"""Files store the seed as a signed integer of 64 bits."""

Positive = Annotated[float, Field(gt=0)]
Sensing = Literal["single_ended", "differential"]
Level = Literal["L0", "L2"]


@dataclass(frozen=True, slots=True)
class OffCheck:
    """A column with rows off, simulated to check the model and never fitted."""

    n_minus: Annotated[int, Field(ge=0)]
    n_plus: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class ColumnRecipe:
    """Monte Carlo of one column: every row on, at each count of rows that pull BL down.

    Args:
        n_minus: The counts; the others pull BLB.
        samples: Samples a count; every fourth one is held out of the fit.
        level: What reads the columns: the full circuit (L0), or the fast column (L2) where it passes its own check.
        samples_l0: With level L2, the most samples a count where the full circuit is used; 256 by default.
        active_rows: Numbers of rows that are on; at each, the counts of n_minus up to it, and it itself.
    """

    n_minus: tuple[Annotated[int, Field(ge=0)], ...]
    samples: Annotated[int, Field(ge=16)]
    rows: Annotated[int, Field(ge=1, le=256)] = 64
    level: Level = "L0"
    samples_l0: Annotated[int, Field(ge=16)] | None = None
    active_rows: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    word_line_v: Bias | None = None
    pulse_s: Bias | None = None
    c_bit_line_f: Positive | None = None
    time_step_s: Positive | None = None
    bypass: bool | None = None
    rows_off: tuple[OffCheck, ...] = ()

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """Rows that pull BL and BLB at each point of the columns, without the checks of rows_off."""
        if self.active_rows is None:
            return tuple((n, self.rows - n) for n in self.n_minus)
        return tuple(
            (n, active - n)
            for active in self.active_rows
            for n in dict.fromkeys([*(n for n in self.n_minus if n <= active), active])
        )


@dataclass(frozen=True, slots=True)
class ComparatorRecipe:
    """Monte Carlo of a comparator's offset, by bisection, at each reference level.

    Args:
        method: With `sensitivity`, each device is also shifted alone, by a sigma up and down: the offset's gradient,
            with which far fewer samples give the same error.
        level_v: References in volts; for differential sensing the wanted BL - BLB.
        range_v: The bisection starts at -range_v and +range_v around the level.
        tolerance_v: Half the last bracket; a microvolt is finer than ngspice's own tolerance.
        common_mode_v: For differential sensing, the common modes of BL and BLB at which every level is measured; the
            amplifier's default alone where it is not given. A single-ended comparator's level is its common mode.
        parameters: Sizes in metres in place of the amplifier's own, by name; at most a millimetre, as no size in other
            units is.
        decision_s: From the clock's edge to the reading of the outputs, in seconds, at most a microsecond; the
            amplifier's own by default.
        within_supply: Measure only where no line lies above the supply: at a common mode those levels that the
            difference of two lines can have there. The model takes the others from the nearest of them.
    """

    amplifier: str
    sensing: Sensing
    level_v: Annotated[tuple[float, ...], Field(min_length=2)]
    samples: Annotated[int, Field(ge=16)]
    range_v: Positive = 0.32
    tolerance_v: Annotated[float, Field(ge=1e-6)] = 0.5e-3
    method: Literal["bisection", "sensitivity"] = "bisection"
    common_mode_v: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] | None = None
    parameters: Mapping[str, Annotated[float, Field(gt=0, le=1e-3)]] = field(default_factory=dict)
    decision_s: Annotated[float, Field(gt=0, le=1e-6)] | None = None
    within_supply: bool = False

    def measures(self, level_v: float, common_mode_v: float, vdd_v: float) -> bool:
        """Whether a level is measured at a supply; of differential sensing, at a common mode of the lines."""
        highest_v = level_v if self.sensing == "single_ended" else common_mode_v + abs(level_v) / 2
        return not self.within_supply or highest_v <= vdd_v + 1e-9


@dataclass(frozen=True, slots=True)
class SamplingRecipe:
    """How mismatch is drawn, and when there are enough samples at a point.

    Args:
        method: Independent draws, or batches of Sobol's sequence or of Latin hypercubes, each randomised anew.
        standard_error_counts: Wanted standard error of the mean of each line and of their difference, in counts;
            collection at a point ends there, at the latest with `column.samples`.
        standard_error_v: The same in volts.
    """

    method: Method = "random"
    standard_error_counts: Positive | None = None
    standard_error_v: Positive | None = None

    @property
    def stops(self) -> bool:
        """Whether a standard error ends the collection."""
        return self.standard_error_counts is not None or self.standard_error_v is not None


@dataclass(frozen=True, slots=True)
class Recipe:
    """One characterization: a cell in a process and its comparators, at one or several operating points."""

    title: str
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    cell: str
    process: str
    column: ColumnRecipe
    corner: Corner = field(default_factory=Corner)
    sweep: Sweep | None = None
    point: tuple[PointEntry, ...] = ()
    comparator: tuple[ComparatorRecipe, ...] = ()
    sampling: SamplingRecipe = field(default_factory=SamplingRecipe)
    engine: EngineName = "shared"
    timeout_s: Positive = 60.0
    max_failure_rate: Annotated[float, Field(ge=0, lt=1)] = 0.01


@dataclass(frozen=True, slots=True)
class Campaign:
    """A recipe with the circuits that it names."""

    recipe: Recipe
    text: str
    place: str
    cell: Cell
    process: Process
    amplifiers: Mapping[str, SenseAmplifier] = field(default_factory=dict)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """Where the columns and comparators are simulated, as far as the recipe says it: a bias may be `auto`."""
        column, corner, defaults = self.recipe.column, self.recipe.corner, self.cell.defaults
        word_line_v, pulse_s = column.word_line_v or defaults.word_line_v, column.pulse_s or defaults.pulse_s
        base = OperatingPoint(corner.process, corner.vdd_v, corner.temp_c, word_line_v, pulse_s)
        return operating_points(base, self.recipe.sweep, self.recipe.point)

    def place_of(self, index: int, quantity: str) -> tuple[str | int, ...]:
        """The recipe's key that gives the operating point of an index a quantity."""
        return place_of(self.recipe.sweep, self.recipe.point, index, quantity)


def load_campaign(name_or_path: str | Path, *, cell: str | Path | None = None) -> Campaign:
    """The campaign of a recipe: one of `characterization/` by name, a TOML file, or a folder with recipe.toml.

    Cells, processes and amplifiers that a recipe names by a path are looked up from the recipe's own folder.

    Args:
        name_or_path: The recipe.
        cell: A cell or its folder, in the place of the recipe's.

    Raises:
        InputError: Unknown recipe, key or value, or counts that do not fit the rows.
        UnsafeError: A netlist holds what could run code.
    """
    path = Path(name_or_path)
    # A run's folder may have its recipe's name; a folder with a recipe of its own comes before a built-in one.
    if path.is_dir() and ((path / "recipe.toml").is_file() or not _is_built_in(str(name_or_path))):
        path = path / "recipe.toml"
        if not path.is_file():
            raise InputError(
                "no such file", place=str(path), hint="write one, or give --recipe quick for a cell's folder"
            )
    elif path.suffix != ".toml":
        path = resources.find("characterization", f"{name_or_path}.toml")
    recipe = load_toml(path, Recipe)
    text = path.read_text(encoding="utf-8")
    check_sweep(text, str(path), recipe.sweep, recipe.point)
    _check_counts(recipe, path)
    _check_sampling(recipe, path)
    with at_key(path, "cell"):
        loaded = load_cell(named_in(path, recipe.cell) if cell is None else cell)
    with at_key(path, "process"):
        process = load_process(named_in(path, recipe.process))
    campaign = Campaign(recipe=recipe, text=text, place=str(path), cell=loaded, process=process)
    _check_operating_points(campaign)
    return replace(campaign, amplifiers=_amplifiers(recipe, path))


def _is_built_in(name: str) -> bool:
    return "/" not in name and (resources.data_folder("characterization") / f"{name}.toml").is_file()


def named_in(recipe: Path, name: str) -> str | Path:
    """What a recipe names: a built-in name, or a folder relative to the recipe's own.

    >>> named_in(Path("cells/mine/recipe.toml"), "../process").as_posix()
    'cells/mine/../process'
    >>> named_in(Path("cells/mine/recipe.toml"), "generic65")
    'generic65'
    """
    plain = "/" not in name and name not in (".", "..")
    # A "~" that names nobody stays as it is, and is then said not to be there.
    return name if plain else recipe.parent / os.path.expanduser(name)


def _check_operating_points(campaign: Campaign) -> None:
    """Refuse the same operating point twice, and a corner that the process does not have."""
    points = campaign.operating_points
    check_different(points, campaign.place, listed=bool(campaign.recipe.point))
    for index, point in enumerate(points):
        with at_key(campaign.place, *campaign.place_of(index, "process")):
            campaign.process.corner_text(point.process)


def _check_counts(recipe: Recipe, path: Path) -> None:
    """Refuse counts that do not fit the rows, that are named twice, or that are too few for a fit."""
    column = recipe.column
    with at_key(path, "column", "n_minus"):
        beyond = [n for n in column.n_minus if n > column.rows]
        if beyond:
            raise InputError(f"column.n_minus has {beyond[0]}, expected 0 to rows = {column.rows}")
        _check_unique("column.n_minus", column.n_minus)
        different = {*column.n_minus, *(column.rows - n for n in column.n_minus)}
        if len(different) < FEWEST_COUNTS:
            came = f"column.n_minus and rows - n_minus are {len(different)} different counts"
            raise InputError(f"{came}, expected at least {FEWEST_COUNTS}")
    _check_active_rows(column, path)
    for index, off in enumerate(column.rows_off):
        with at_key(path, "column", "rows_off", index):
            if off.n_minus + off.n_plus >= column.rows:
                raise InputError(f"rows_off {off.n_minus} + {off.n_plus} leaves no row of {column.rows} off")
            _check_unique("column.rows_off", [(each.n_minus, each.n_plus) for each in column.rows_off])
            if (off.n_minus, off.n_plus) in column.counts:
                raise InputError(f"rows_off {off.n_minus} + {off.n_plus} is among the counts of active_rows")


def _check_active_rows(column: ColumnRecipe, path: Path) -> None:
    with at_key(path, "column", "active_rows"):
        beyond = [active for active in column.active_rows or () if active > column.rows]
        if beyond:
            raise InputError(f"column.active_rows has {beyond[0]}, expected 1 to rows = {column.rows}")
        _check_unique("column.active_rows", column.active_rows or ())
        if column.active_rows == ():
            raise InputError("column.active_rows names no number of rows")
    if column.samples_l0 is not None:
        with at_key(path, "column", "samples_l0"):
            if column.level == "L0":
                raise InputError("column.samples_l0 goes with level L2, here it is L0", hint="give samples alone")
            if column.samples_l0 > column.samples:
                raise InputError(
                    f"column.samples_l0 = {column.samples_l0}, expected at most samples = {column.samples}"
                )


def _check_sampling(recipe: Recipe, path: Path) -> None:
    """Refuse two stopping rules, a rule that nothing could meet, and batches that are not whole."""
    sampling, column = recipe.sampling, recipe.column
    if sampling.standard_error_counts is not None and sampling.standard_error_v is not None:
        with at_key(path, "sampling", "standard_error_v"):
            raise InputError("standard_error_counts and standard_error_v, expected one of them")
    if sampling.stops and column.samples < FEWEST_BATCHES * BATCH:
        with at_key(path, "column", "samples"):
            came = f"samples = {column.samples} is the most with a standard error to stop at"
            raise InputError(f"{came}, expected at least {FEWEST_BATCHES * BATCH}")
    if sampling.method == "random":
        return
    for keys, samples in (
        (("column", "samples"), column.samples),
        (("column", "samples_l0"), column.samples_l0 or BATCH),
        *((("comparator", i, "samples"), each.samples) for i, each in enumerate(recipe.comparator)),
    ):
        with at_key(path, *keys):
            if samples % BATCH:
                raise InputError(f"{keys[-1]} = {samples}, expected a multiple of {BATCH} for method {sampling.method}")


def _amplifiers(recipe: Recipe, path: Path) -> dict[str, SenseAmplifier]:
    """The comparators that a recipe names; one a sensing style, and only such that can sense in it."""
    amplifiers: dict[str, SenseAmplifier] = {}
    for index, each in enumerate(recipe.comparator):
        with at_key(path, "comparator", index, "level_v"):
            _check_unique("level_v", each.level_v)
        with at_key(path, "comparator", index, "amplifier"):
            amplifier = load_amplifier(named_in(path, each.amplifier))
        for name in each.parameters:
            with at_key(path, "comparator", index, "parameters", name):
                if name not in amplifier.parameters:
                    known = ", ".join(amplifier.parameters)
                    raise InputError(f"{each.amplifier} has no parameter {name!r}", hint=f"it has: {known}")
        amplifiers[each.amplifier] = replace(amplifier, parameters={**amplifier.parameters, **each.parameters})
        with at_key(path, "comparator", index, "decision_s"):
            rise_s = amplifier.defaults.clock_rise_s
            if each.decision_s is not None and each.decision_s <= rise_s:
                raise InputError(f"decision_s = {each.decision_s:g}, expected more than the clock's rise of {rise_s:g}")
        with at_key(path, "comparator", index, "sensing"):
            _check_unique("sensing", [other.sensing for other in recipe.comparator])
            has_reference = any(share.reference for share in amplifier.inputs.values())
            if has_reference != (each.sensing == "differential"):
                inputs = "inputs for two references" if has_reference else "no input for a second reference"
                raise InputError(f"{each.amplifier} cannot sense {each.sensing}: it has {inputs}")
        with at_key(path, "comparator", index, "common_mode_v"):
            _check_unique("common_mode_v", each.common_mode_v or ())
            if each.common_mode_v is not None and each.sensing == "single_ended":
                raise InputError("common_mode_v of a single_ended comparator, whose level_v is its common mode")
    return amplifiers


def _check_unique(name: str, values: Sequence[object]) -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise InputError(f"{name} names {twice} twice")
