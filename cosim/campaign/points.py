"""The points of a campaign: what one Monte Carlo sample is, drawn from its own seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int8

from cosim.campaign.controls import column_controls
from cosim.campaign.design import BATCH, Method, canonical_order, generator_of, standard_shifts
from cosim.campaign.places import at_key
from cosim.campaign.recipe import Campaign, ComparatorRecipe
from cosim.campaign.sensitivity import TOLERANCE_V, step_of
from cosim.circuit.column import ColumnBench, column_bench, column_deck
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck
from cosim.circuit.deck import Deck

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
class ColumnPoint:
    """Columns with `n_minus` rows that pull BL, `n_plus` that pull BLB, and the others off.

    Args:
        method: How the devices' shifts are drawn.
        batch: Samples of one point set; of no meaning for the method random.
    """

    bench: ColumnBench
    n_minus: int
    n_plus: int
    samples: int
    method: Method = "random"
    batch: int = BATCH

    @property
    def kind(self) -> Kind:
        """The table that its samples are in."""
        return "column"

    @property
    def label(self) -> str:
        """The point in words, for progress and errors."""
        return f"column, {self.n_minus} rows on BL and {self.n_plus} on BLB"

    @property
    def identity(self) -> tuple[str | int | float, ...]:
        """What makes this point's draws its own; the same at every corner and in both engines."""
        return ("column", self.bench.rows, self.n_minus, self.n_plus)

    def draw(self, seed: int, sample: int) -> ColumnDraw:
        """The sample's column; depends on the seed, the point, its method and the sample's index alone."""
        generator = generator_of(seed, self.identity, sample)
        rows = self.bench.rows
        products = np.zeros(rows, np.int8)
        products[: self.n_minus] = -1
        products[self.n_minus : self.n_minus + self.n_plus] = 1
        products = generator.permutation(products)
        weights = self._possible(products, generator.choice(np.array([-1, 1], np.int8), rows))
        sigmas = self.bench.cell.vth_sigmas(self.bench.process)
        if self.method == "random":
            return ColumnDraw(products, weights, generator.standard_normal((rows, sigmas.size)) * sigmas)
        shifts = np.empty((rows, sigmas.size))
        drawn = standard_shifts(self.method, seed, self.identity, sample, self.batch, shifts.size)
        shifts[canonical_order(products, weights)] = drawn.reshape(shifts.shape)
        return ColumnDraw(products, weights, shifts * sigmas)

    def controls(self, draw: ColumnDraw) -> Float[np.ndarray, "line control"]:
        """What is known of a drawn column before it is simulated; see `column_controls`."""
        cell = self.bench.cell
        sigmas = cell.vth_sigmas(self.bench.process)
        return column_controls(draw.products, draw.weights, draw.vth_shift_v, sigmas, cell)

    def deck(self, draw: ColumnDraw) -> Deck:
        """The deck of a drawn column."""
        return column_deck(self.bench, draw.products, draw.weights, draw.vth_shift_v)

    def nominal_deck(self) -> Deck:
        """The same column without mismatch; with the sigmas it stands for the point in its key."""
        products = np.zeros(self.bench.rows, np.int8)
        products[: self.n_minus] = -1
        products[self.n_minus : self.n_minus + self.n_plus] = 1
        devices = self.bench.cell.vth_sigmas(self.bench.process).size
        weights = self._possible(products, np.ones(self.bench.rows, np.int8))
        return column_deck(self.bench, products, weights, np.zeros((self.bench.rows, devices)))

    def settings(self) -> dict[str, object]:
        """What the deck does not show but the samples depend on."""
        return {"sigmas": self.bench.cell.vth_sigmas(self.bench.process).tolist()} | _drawing(self)

    def _possible(
        self, products: Int8[np.ndarray, " row"], wanted: Int8[np.ndarray, " row"]
    ) -> Int8[np.ndarray, " row"]:
        """The wanted weights, and where the cell cannot make a row's product with one, the weight that can."""
        weights = wanted.copy()
        for product in (-1, 0, 1):
            can = [weight for weight, _ in self.bench.cell.states(product)]
            if can:
                weights[(products == product) & ~np.isin(wanted, can)] = can[0]
        return weights


@dataclass(frozen=True, slots=True)
class ComparatorPoint:
    """Offsets of one comparator at one reference level.

    Args:
        method: How the devices' shifts are drawn.
        batch: Samples of one point set; of no meaning for the method random.
        perturbed: Each sample is one device shifted by a sigma, up or down, instead of a random draw.
    """

    bench: ComparatorBench
    amplifier: str
    sensing: str
    level_v: float
    range_v: float
    tolerance_v: float
    samples: int
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
        return f"{self.amplifier} at {self.level_v:g} V" + (", one device shifted" if self.perturbed else "")

    @property
    def identity(self) -> tuple[str | int | float, ...]:
        """What makes this point's draws its own; the same at every corner and in both engines."""
        return (self.kind, self.amplifier, round(self.level_v, 9))

    def draw(self, seed: int, sample: int) -> Float[np.ndarray, " device"]:
        """The sample's threshold shifts in volts; depends on the seed, the point and the sample's index alone."""
        sigmas = self.bench.amplifier.vth_sigmas(self.bench.process)
        return self.controls(seed, sample) * sigmas

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


def points_of(campaign: Campaign) -> tuple[Point, ...]:
    """All points of a campaign: the counts, the checks with rows off, then the comparators' levels.

    Raises:
        InputError: A bias, a time or a level that the circuit does not allow; with the recipe's line.
    """
    column = campaign.recipe.column
    with at_key(campaign.place, "column"):
        bench = _column_bench(campaign)
    counts = [(n, column.rows - n) for n in column.n_minus] + [(off.n_minus, off.n_plus) for off in column.rows_off]
    method = campaign.recipe.sampling.method
    columns = [ColumnPoint(bench, minus, plus, column.samples, method) for minus, plus in counts]
    comparators: list[ComparatorPoint] = []
    for index, each in enumerate(campaign.recipe.comparator):
        with at_key(campaign.place, "comparator", index, "level_v"):
            comparators += [each_of for level in each.level_v for each_of in _comparator_points(campaign, each, level)]
    return (*columns, *comparators)


def circuit_of(point: Point) -> str:
    """What a point simulates: `column`, or its comparator's name; points of one circuit differ in values alone."""
    return "column" if isinstance(point, ColumnPoint) else point.amplifier


def key_of(point: Point, seed: int, engine: str, engine_version: str) -> str:
    """The hash of all that the point's samples depend on, except how many there are."""
    deck = point.nominal_deck()
    what = {
        "format": FORMAT,
        "identity": point.identity,
        "seed": seed,
        "engine": [engine, engine_version],
        "deck": [deck.text, deck.probes, deck.times_s],
        "settings": point.settings(),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _column_bench(campaign: Campaign) -> ColumnBench:
    column = campaign.recipe.column
    asked = {
        "rows": column.rows,
        "word_line_v": column.word_line_v,
        "pulse_s": column.pulse_s,
        "c_bit_line_f": column.c_bit_line_f,
        "time_step_s": column.time_step_s,
        "bypass": column.bypass,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    return column_bench(campaign.cell, campaign.process, campaign.recipe.corner, **changes)


def _comparator_points(campaign: Campaign, recipe: ComparatorRecipe, level_v: float) -> list[ComparatorPoint]:
    """The offsets at a level, and before them the perturbed comparators where the recipe asks for sensitivities."""
    amplifier = campaign.amplifiers[recipe.amplifier]
    level = {"common_mode_v" if recipe.sensing == "single_ended" else "reference_v": level_v}
    bench = comparator_bench(amplifier, campaign.process, campaign.recipe.corner, **level)
    place = (bench, recipe.amplifier, recipe.sensing, level_v, recipe.range_v)
    method = campaign.recipe.sampling.method
    drawn = ComparatorPoint(*place, recipe.tolerance_v, recipe.samples, method)
    if recipe.method == "bisection":
        return [drawn]
    tolerance_v = min(recipe.tolerance_v, TOLERANCE_V)
    return [ComparatorPoint(*place, tolerance_v, 2 * len(amplifier.devices), perturbed=True), drawn]


def _drawing(point: Point) -> dict[str, object]:
    """How the shifts are drawn; nothing for independent draws, so that their keys stay what they were."""
    return {} if point.method == "random" else {"method": point.method, "batch": point.batch}
