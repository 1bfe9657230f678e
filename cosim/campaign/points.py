"""The points of a campaign: what one Monte Carlo sample is, drawn from its own seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product as every
from typing import Literal

import numpy as np
from jaxtyping import Float, Int8

from cosim.campaign.controls import column_controls
from cosim.campaign.design import BATCH, Method, batch_of, canonical_order, generator_of, standard_shifts
from cosim.campaign.places import at_key
from cosim.campaign.recipe import Campaign, ComparatorRecipe
from cosim.campaign.sensitivity import TOLERANCE_V, step_of
from cosim.campaign.sweep import QUANTITIES, OperatingPoint
from cosim.circuit.column import ColumnBench, column_bench, column_deck
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck
from cosim.circuit.deck import Deck
from cosim.errors import InputError

Kind = Literal["column", "comparator", "sensitivity"]

FORMAT = 1
"""Raised when the meaning of a sample changes, so that old shards are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class ColumnDraw:
    """One column: the sign of each row's product and weight, and each device's threshold shift."""

    products: Int8[np.ndarray, " row"]
    weights: Int8[np.ndarray, " row"]
    vth_shift_v: Float[np.ndarray, "row device"]


@dataclass(frozen=True, slots=True)
class ColumnDraws:
    """Several columns, as the fast column takes them."""

    products: Int8[np.ndarray, "sample row"]
    weights: Int8[np.ndarray, "sample row"]
    vth_shift_v: Float[np.ndarray, "sample row device"]


@dataclass(frozen=True, slots=True)
class ColumnPoint:
    """Columns with `n_minus` rows that pull BL, `n_plus` that pull BLB, and the others off.

    Args:
        operating: The index of the operating point.
        at: The operating point in words where there are several; no part of what the samples are.
        method: How the devices' shifts are drawn.
        batch: Samples of one point set; of no meaning for the method random.
    """

    bench: ColumnBench
    n_minus: int
    n_plus: int
    samples: int
    operating: int = 0
    at: str = ""
    method: Method = "random"
    batch: int = BATCH

    @property
    def kind(self) -> Kind:
        """The table that its samples are in."""
        return "column"

    @property
    def label(self) -> str:
        """The point in words, for progress and errors."""
        return f"column, {self.n_minus} rows on BL and {self.n_plus} on BLB" + (f", at {self.at}" if self.at else "")

    @property
    def identity(self) -> tuple[str | int | float, ...]:
        """What makes this point's draws its own; the same at every corner and in both engines."""
        return ("column", self.bench.rows, self.n_minus, self.n_plus)

    def draw(self, seed: int, sample: int) -> ColumnDraw:
        """The sample's column; depends on the seed, the point, its method and the sample's index alone."""
        draws = self.draws(seed, sample, sample + 1)
        return ColumnDraw(draws.products[0], draws.weights[0], draws.vth_shift_v[0])

    def draws(self, seed: int, start: int, stop: int) -> ColumnDraws:
        """Consecutive samples' columns, each as `draw` gives it; the fast column reads many at once."""
        rows, sigmas = self.bench.rows, self.bench.cell.vth_sigmas(self.bench.process)
        ordered = self._ordered()
        products = np.empty((stop - start, rows), np.int8)
        wanted = np.empty_like(products)
        shift = np.empty((stop - start, rows, sigmas.size))
        for index in range(stop - start):
            generator = generator_of(seed, self.identity, start + index)
            products[index] = generator.permutation(ordered)
            wanted[index] = generator.choice(_SIGNS, rows)
            if self.method == "random":
                generator.standard_normal(out=shift[index])
        weights = self._possible(products, wanted)
        for index in range(0 if self.method == "random" else stop - start):
            drawn = standard_shifts(self.method, seed, self.identity, start + index, self.batch, rows * sigmas.size)
            shift[index, canonical_order(products[index], weights[index])] = drawn.reshape(rows, sigmas.size)
        return ColumnDraws(products, weights, shift * sigmas)

    def controls(self, draws: ColumnDraws) -> Float[np.ndarray, "line sample control"]:
        """What is known of drawn columns before they are simulated; see `column_controls`."""
        cell = self.bench.cell
        sigmas = cell.vth_sigmas(self.bench.process)
        return column_controls(draws.products, draws.weights, draws.vth_shift_v, sigmas, cell)

    def deck(self, draw: ColumnDraw) -> Deck:
        """The deck of a drawn column."""
        return column_deck(self.bench, draw.products, draw.weights, draw.vth_shift_v)

    def nominal_deck(self) -> Deck:
        """The same column without mismatch; with the sigmas it stands for the point in its key."""
        products = self._ordered()
        devices = self.bench.cell.vth_sigmas(self.bench.process).size
        weights = self._possible(products, np.ones(self.bench.rows, np.int8))
        return column_deck(self.bench, products, weights, np.zeros((self.bench.rows, devices)))

    def settings(self) -> dict[str, object]:
        """What the deck does not show but the samples depend on."""
        return {"sigmas": self.bench.cell.vth_sigmas(self.bench.process).tolist()} | _drawing(self)

    def _ordered(self) -> Int8[np.ndarray, " row"]:
        """The rows' products, those that pull BL first."""
        products = np.zeros(self.bench.rows, np.int8)
        products[: self.n_minus] = -1
        products[self.n_minus : self.n_minus + self.n_plus] = 1
        return products

    def _possible(
        self, products: Int8[np.ndarray, "... row"], wanted: Int8[np.ndarray, "... row"]
    ) -> Int8[np.ndarray, "... row"]:
        """The wanted weights, and where the cell cannot make a row's product with one, the weight that can."""
        weights = wanted.copy()
        for product in (-1, 0, 1):
            can = [weight for weight, _ in self.bench.cell.states(product)]
            if len(can) == 1:
                weights[products == product] = can[0]
        return weights


@dataclass(frozen=True, slots=True)
class ComparatorPoint:
    """Offsets of one comparator at one reference level; what it has in common with a `ColumnPoint` is as there.

    Args:
        perturbed: Each sample is one device shifted by a sigma, up or down, instead of a random draw.
    """

    bench: ComparatorBench
    amplifier: str
    sensing: str
    level_v: float
    range_v: float
    tolerance_v: float
    samples: int
    operating: int = 0
    at: str = ""
    method: Method = "random"
    batch: int = BATCH
    perturbed: bool = False

    @property
    def kind(self) -> Kind:
        """The table that its samples are in."""
        return "sensitivity" if self.perturbed else "comparator"

    @property
    def label(self) -> str:
        """The point in words, for progress and errors."""
        what = ", one device shifted" if self.perturbed else ""
        mode = "" if self._usual else f", common mode {self.bench.common_mode_v:g} V"
        return f"{self.amplifier} at {self.level_v:g} V{mode}{what}" + (f", at {self.at}" if self.at else "")

    @property
    def identity(self) -> tuple[str | int | float, ...]:
        """What makes this point's draws its own; the same at every corner and in both engines."""
        own = () if self._usual else (round(self.bench.common_mode_v, 9),)
        return (self.kind, self.amplifier, round(self.level_v, 9), *own)

    @property
    def _usual(self) -> bool:
        """Whether the common mode goes without saying: the level itself, or the amplifier's default."""
        default_v = self.bench.amplifier.defaults.common_mode_v
        return self.sensing == "single_ended" or self.bench.common_mode_v == default_v

    def draw(self, seed: int, sample: int) -> Float[np.ndarray, " device"]:
        """The sample's threshold shifts in volts; depends on the seed, the point and the sample's index alone."""
        return self.controls(seed, sample) * self.bench.amplifier.vth_sigmas(self.bench.process)

    def controls(self, seed: int, sample: int) -> Float[np.ndarray, " device"]:
        """The sample's shifts in units of each device's sigma."""
        devices = len(self.bench.amplifier.devices)
        if self.perturbed:
            return step_of(sample, devices)
        if self.method == "random":
            return generator_of(seed, self.identity, sample).standard_normal(devices)
        return standard_shifts(self.method, seed, self.identity, sample, self.batch, devices)

    def deck(self, shift_v: Float[np.ndarray, " device"], differential_v: float) -> Deck:
        """The deck of a drawn comparator with an input `differential_v` above its level."""
        return comparator_deck(self.bench, differential_v, shift_v)

    def nominal_deck(self) -> Deck:
        """The comparator without mismatch, balanced; with the settings it stands for the point in its key."""
        return self.deck(np.zeros(self.bench.amplifier.vth_sigmas(self.bench.process).size), 0.0)

    def settings(self) -> dict[str, object]:
        """What the deck does not show but the samples depend on."""
        sigmas = self.bench.amplifier.vth_sigmas(self.bench.process).tolist()
        return {"sigmas": sigmas, "range_v": self.range_v, "tolerance_v": self.tolerance_v} | _drawing(self)


Point = ColumnPoint | ComparatorPoint

_SIGNS = np.array([-1, 1], np.int8)


def points_of(campaign: Campaign, operating: Sequence[OperatingPoint] | None = None) -> tuple[Point, ...]:
    """All points of a campaign: at each operating point the counts, the checks with rows off, the comparators' levels.

    Args:
        operating: The operating points, with what `auto` found; without it, the cell's defaults stand for `auto`.

    Raises:
        InputError: A bias, a time or a level that the circuit does not allow; with the recipe's line.
    """
    chosen = campaign.operating_points if operating is None else operating
    points: list[Point] = []
    for index, point in enumerate(chosen):
        at = str(point) if len(chosen) > 1 else ""
        points += _column_points(campaign, column_bench_at(campaign, index, point), index, at)
        points += _comparator_points(campaign, point, index, at)
    return tuple(points)


def column_bench_at(campaign: Campaign, index: int, point: OperatingPoint) -> ColumnBench:
    """The column at an operating point; the cell's defaults stand for `auto`.

    Raises:
        InputError: A value is out of the cell's range, or `auto` does not suit the cell; with the recipe's line.
    """
    column, cell = campaign.recipe.column, campaign.cell
    for name in point.auto:
        if cell.sensing != "discharge":
            with at_key(campaign.place, *campaign.place_of(index, name)):
                message = f"{name} = auto is for cells read by discharge, {cell.name} is read by {cell.sensing}"
                raise InputError(message, hint="give a number")
    asked = {
        "rows": column.rows,
        "word_line_v": None if "word_line_v" in point.auto else point.word_line_v,
        "pulse_s": None if "pulse_s" in point.auto else point.pulse_s,
        "c_bit_line_f": column.c_bit_line_f,
        "time_step_s": column.time_step_s,
        "bypass": column.bypass,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    with _at_quantity(campaign, index):
        return column_bench(cell, campaign.process, point.corner, **changes)


def circuit_of(point: Point) -> str:
    """What a point simulates: `column`, or its comparator's name; points of one circuit differ in values alone."""
    return "column" if isinstance(point, ColumnPoint) else point.amplifier


def key_of(point: Point, seed: int, engine: str, engine_version: str, fast: str = "") -> str:
    """The hash of all that the point's samples depend on, except how many there are.

    Args:
        fast: The hash of the fast column that reads them; the full circuit does where it is empty.
    """
    deck = point.nominal_deck()
    what: dict[str, object] = {
        "format": FORMAT,
        "identity": point.identity,
        "seed": seed,
        "engine": [engine, engine_version],
        "deck": [deck.text, deck.probes, deck.times_s],
        "settings": point.settings(),
    }
    what |= {"fast": fast} if fast else {}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _column_points(campaign: Campaign, bench: ColumnBench, index: int, at: str) -> list[ColumnPoint]:
    column = campaign.recipe.column
    counts = [*column.counts, *((off.n_minus, off.n_plus) for off in column.rows_off)]
    method = campaign.recipe.sampling.method
    batch = batch_of(column.samples, BATCH)
    return [ColumnPoint(bench, minus, plus, column.samples, index, at, method, batch) for minus, plus in counts]


def _comparator_points(campaign: Campaign, point: OperatingPoint, index: int, at: str) -> list[ComparatorPoint]:
    found: list[ComparatorPoint] = []
    for number, each in enumerate(campaign.recipe.comparator):
        default_v = campaign.amplifiers[each.amplifier].defaults.common_mode_v
        places = [
            (level_v, mode_v)
            for level_v, mode_v in every(each.level_v, each.common_mode_v or (None,))
            if each.measures(level_v, default_v if mode_v is None else mode_v, point.vdd_v)
        ]
        with at_key(campaign.place, "comparator", number, "within_supply"):
            if len({level_v for level_v, _ in places}) < 2:
                raise InputError(f"fewer than 2 levels of {each.amplifier} lie within the supply of {point.vdd_v:g} V")
        key = "level_v" if each.common_mode_v is None else "common_mode_v"
        for place_v in places:
            with at_key(campaign.place, "comparator", number, key), _at_quantity(campaign, index, "vdd_v"):
                drawn = _comparator_point(campaign, each, place_v, point, index, at)
                found += [_perturbed(drawn), drawn] if each.method == "sensitivity" else [drawn]
    return found


def _comparator_point(
    campaign: Campaign,
    recipe: ComparatorRecipe,
    place_v: tuple[float, float | None],
    point: OperatingPoint,
    index: int,
    at: str,
) -> ComparatorPoint:
    """The point of a level and a common mode; of the amplifier's default one where that is None."""
    level_v, common_mode_v = place_v
    level = {"common_mode_v": level_v}
    if recipe.sensing == "differential":
        level = {"reference_v": level_v} | ({} if common_mode_v is None else {"common_mode_v": common_mode_v})
    amplifier = campaign.amplifiers[recipe.amplifier]
    bench = comparator_bench(amplifier, campaign.process, point.corner, **level, decision_s=recipe.decision_s)
    about = (recipe.amplifier, recipe.sensing, level_v, recipe.range_v, recipe.tolerance_v, recipe.samples)
    how = (campaign.recipe.sampling.method, batch_of(recipe.samples, BATCH))
    return ComparatorPoint(bench, *about, index, at, *how)


def _perturbed(drawn: ComparatorPoint) -> ComparatorPoint:
    """The comparators whose offsets give the gradient of the drawn ones'."""
    count, tolerance_v = 2 * len(drawn.bench.amplifier.devices), min(drawn.tolerance_v, TOLERANCE_V)
    return replace(drawn, samples=count, tolerance_v=tolerance_v, method="random", perturbed=True)


def _drawing(point: Point) -> dict[str, object]:
    """How the shifts are drawn; nothing for independent draws, so that their keys stay what they were."""
    return {} if point.method == "random" else {"method": point.method, "batch": point.batch}


@contextmanager
def _at_quantity(campaign: Campaign, index: int, *only: str) -> Generator[None]:
    """Gives errors that begin with a quantity's name the line where the recipe names it; `only` some of them."""
    try:
        yield
    except InputError as error:
        name = error.message.split(maxsplit=1)[0].rstrip(":")
        if only and name not in only:
            raise
        keys = campaign.place_of(index, name) if name in QUANTITIES else ("column", name)
        with at_key(campaign.place, *keys):
            raise
