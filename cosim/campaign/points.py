"""The points of a campaign: what one Monte Carlo sample is, drawn from its own seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int8

from cosim.campaign.places import at_key
from cosim.campaign.recipe import Campaign, ComparatorRecipe
from cosim.circuit.column import ColumnBench, column_bench, column_deck
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck
from cosim.circuit.deck import Deck

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
    """Columns with `n_minus` rows that pull BL, `n_plus` that pull BLB, and the others off."""

    bench: ColumnBench
    n_minus: int
    n_plus: int
    samples: int
    kind: Literal["column"] = "column"

    @property
    def label(self) -> str:
        """The point in words, for progress and errors."""
        return f"column, {self.n_minus} rows on BL and {self.n_plus} on BLB"

    @property
    def identity(self) -> tuple[str | int | float, ...]:
        """What makes this point's draws its own; the same at every corner and in both engines."""
        return ("column", self.bench.rows, self.n_minus, self.n_plus)

    def draw(self, seed: int, sample: int) -> ColumnDraw:
        """The sample's column; depends on the seed, the point and the sample's index alone."""
        generator = generator_of(seed, self.identity, sample)
        rows = self.bench.rows
        products = np.zeros(rows, np.int8)
        products[: self.n_minus] = -1
        products[self.n_minus : self.n_minus + self.n_plus] = 1
        products = generator.permutation(products)
        weights = self._possible(products, generator.choice(np.array([-1, 1], np.int8), rows))
        sigmas = self.bench.cell.vth_sigmas(self.bench.process)
        return ColumnDraw(products, weights, generator.standard_normal((rows, sigmas.size)) * sigmas)

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
        return {"sigmas": self.bench.cell.vth_sigmas(self.bench.process).tolist()}

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
    """Offsets of one comparator at one reference level."""

    bench: ComparatorBench
    amplifier: str
    sensing: str
    level_v: float
    range_v: float
    tolerance_v: float
    samples: int
    kind: Literal["comparator"] = "comparator"

    @property
    def label(self) -> str:
        """The point in words, for progress and errors."""
        at = "" if self._usual else f", common mode {self.bench.common_mode_v:g} V"
        return f"{self.amplifier} at {self.level_v:g} V{at}"

    @property
    def identity(self) -> tuple[str | int | float, ...]:
        """What makes this point's draws its own; the same at every corner and in both engines."""
        own = () if self._usual else (round(self.bench.common_mode_v, 9),)
        return ("comparator", self.amplifier, round(self.level_v, 9), *own)

    @property
    def _usual(self) -> bool:
        """Whether the common mode goes without saying: the level itself, or the amplifier's default."""
        default_v = self.bench.amplifier.defaults.common_mode_v
        return self.sensing == "single_ended" or self.bench.common_mode_v == default_v

    def draw(self, seed: int, sample: int) -> Float[np.ndarray, " device"]:
        """The sample's threshold shifts in volts; depends on the seed, the point and the sample's index alone."""
        sigmas = self.bench.amplifier.vth_sigmas(self.bench.process)
        return generator_of(seed, self.identity, sample).standard_normal(sigmas.size) * sigmas

    def deck(self, shift_v: Float[np.ndarray, " device"], differential_v: float) -> Deck:
        """The deck of a drawn comparator with an input `differential_v` above its level."""
        return comparator_deck(self.bench, differential_v, shift_v)

    def nominal_deck(self) -> Deck:
        """The comparator without mismatch, balanced; with the settings it stands for the point in its key."""
        return self.deck(np.zeros(self.bench.amplifier.vth_sigmas(self.bench.process).size), 0.0)

    def settings(self) -> dict[str, object]:
        """What the deck does not show but the samples depend on."""
        sigmas = self.bench.amplifier.vth_sigmas(self.bench.process).tolist()
        return {"sigmas": sigmas, "range_v": self.range_v, "tolerance_v": self.tolerance_v}


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
    columns = [ColumnPoint(bench, minus, plus, column.samples) for minus, plus in counts]
    comparators: list[ComparatorPoint] = []
    for index, each in enumerate(campaign.recipe.comparator):
        key = "level_v" if each.common_mode_v is None else "common_mode_v"
        with at_key(campaign.place, "comparator", index, key):
            modes_v = each.common_mode_v or (None,)
            comparators += [_comparator_point(campaign, each, v, mode_v) for v in each.level_v for mode_v in modes_v]
    return (*columns, *comparators)


def circuit_of(point: Point) -> str:
    """What a point simulates: `column`, or its comparator's name; points of one circuit differ in values alone."""
    return "column" if isinstance(point, ColumnPoint) else point.amplifier


def generator_of(seed: int, identity: tuple[str | int | float, ...], sample: int) -> np.random.Generator:
    """The generator of one sample: `SeedSequence(seed, spawn_key=(point, sample))`, point = hash of identity."""
    point = int.from_bytes(hashlib.sha256(repr(identity).encode()).digest()[:4], "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(point, sample))))


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


def _comparator_point(
    campaign: Campaign, recipe: ComparatorRecipe, level_v: float, common_mode_v: float | None
) -> ComparatorPoint:
    amplifier = campaign.amplifiers[recipe.amplifier]
    level = {"common_mode_v": level_v}
    if recipe.sensing == "differential":
        level = {"reference_v": level_v} | ({} if common_mode_v is None else {"common_mode_v": common_mode_v})
    bench = comparator_bench(amplifier, campaign.process, campaign.recipe.corner, **level)
    return ComparatorPoint(
        bench, recipe.amplifier, recipe.sensing, level_v, recipe.range_v, recipe.tolerance_v, recipe.samples
    )
