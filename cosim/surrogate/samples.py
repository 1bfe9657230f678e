"""Samples as a fit takes them: the good reads of a file, by operating point, and what went wrong with the others."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from cosim.campaign.filetypes import STATUS
from cosim.errors import MeasuredWorseError
from cosim.surrogate.moments import Sensing

HELD_OUT = 4
"""Every fourth sample checks the fit and takes no part in it."""

Table = Mapping[str, np.ndarray]
"""A file's datasets by name."""


@dataclass(frozen=True, slots=True)
class ColumnSamples:
    """Good column samples: voltages with the counts they were read at and the sample's index."""

    n_minus: Float[np.ndarray, " read"]
    n_plus: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    bl_v: Float[np.ndarray, " read"]
    blb_v: Float[np.ndarray, " read"]

    @property
    def lines(self) -> int:
        """1 for a column of one line, whose BLB is nowhere a number; else 2."""
        return 1 if self.blb_v.size and np.isnan(self.blb_v).all() else 2

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ColumnSamples:
        """The reads where the mask is set."""
        return ColumnSamples(*(getattr(self, name)[mask] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class ComparatorSamples:
    """Good offsets of one comparator, with their levels, common modes and the sample's index.

    Args:
        common_mode_v: Not a number where the file does not say, as those of version 1.0.
    """

    level_v: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    offset_v: Float[np.ndarray, " read"]
    common_mode_v: Float[np.ndarray, " read"]

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ComparatorSamples:
        """The offsets where the mask is set."""
        return ComparatorSamples(*(getattr(self, name)[mask] for name in self.__slots__))


def held_out(reads: ColumnSamples | ComparatorSamples) -> Bool[np.ndarray, " read"]:
    """Which samples check the fit."""
    return reads.sample % HELD_OUT == HELD_OUT - 1


def column_samples(table: Table, rows: int) -> tuple[ColumnSamples, int]:
    """The good samples of the counts without a flip, and the number of the other counts."""
    status = table["column_status"]
    points, point = np.unique(
        np.stack([table["column_n_minus"], table["column_n_plus"]], axis=1), axis=0, return_inverse=True
    )
    masked = np.zeros(len(points), bool)
    masked[point[status == STATUS.index("flipped")]] = True
    good = (status == 0) & ~masked[point]
    names = ("n_minus", "n_plus", "sample", "bl_v", "blb_v")
    reads = ColumnSamples(*(table[f"column_{name}"][good].astype(float) for name in names))
    if (points < 0).any() or (points.sum(axis=1) > rows).any() or not np.isfinite(reads.bl_v).all():
        raise ValueError(f"counts that {rows} rows cannot have, or a good sample without a voltage")
    if reads.lines == 2 and not np.isfinite(reads.blb_v).all():
        raise ValueError("good samples with a voltage of BLB and others without one")
    return reads, int(masked.sum())


def comparator_samples(table: Table, attributes: Mapping[str, object]) -> dict[Sensing, tuple[str, ComparatorSamples]]:
    """Each comparator's name and good offsets, by its sensing."""
    names: list[str] = json.loads(str(attributes["amplifiers"]))
    sensings: list[Sensing] = json.loads(str(attributes["sensing"]))
    found: dict[Sensing, tuple[str, ComparatorSamples]] = {}
    for index, (name, sensing) in enumerate(zip(names, sensings, strict=True)):
        if sensing not in ("single_ended", "differential"):
            raise ValueError(f"sensing {sensing!r}")
        mine = (table["comparator_amplifier"] == index) & (table["comparator_status"] == 0)
        level_v, sample, offset_v = (
            table[f"comparator_{each}"][mine].astype(float) for each in ("level_v", "sample", "offset_v")
        )
        # The level of a single-ended comparator is its common mode, which then says nothing of its own.
        known = "comparator_common_mode_v" in table and sensing == "differential"
        mode_v = table["comparator_common_mode_v"][mine].astype(float) if known else np.full(mine.sum(), np.nan)
        found[sensing] = (str(name), ComparatorSamples(level_v, sample, offset_v, mode_v))
    return found


def fitted_active(attributes: Mapping[str, object], rows: int) -> tuple[tuple[int, ...], set[tuple[int, int]]]:
    """The numbers of active rows whose reads are for fitting, and the pairs of counts that only check the fit.

    Both are the recipe's, whose text is in the file; without one, only reads with all rows on are fitted.
    """
    text = attributes.get("recipe", "")
    try:
        column: dict[str, Any] = tomllib.loads(str(text)).get("column", {})
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the recipe in the file: {error}") from error
    active = tuple(sorted({int(each) for each in column.get("active_rows", [rows])}))
    off = {(int(each["n_minus"]), int(each["n_plus"])) for each in column.get("rows_off", [])}
    return active, off


def check_failures(table: Table, most: float, place: str) -> None:
    """Refuse samples of which too many failed or flipped: what is left would be biased.

    Raises:
        MeasuredWorseError: Naming the point.
    """
    for kind, coordinates in (("column", ("n_minus", "n_plus")), ("comparator", ("amplifier", "level_v"))):
        if f"{kind}_status" not in table:
            continue
        if kind == "comparator" and "comparator_common_mode_v" in table:
            coordinates = (*coordinates, "common_mode_v")
        bad = table[f"{kind}_status"] != 0
        where = np.stack([table[f"{kind}_{name}"].astype(float) for name in coordinates], axis=1)
        for point in np.unique(where, axis=0):
            at = ((where == point) | (np.isnan(where) & np.isnan(point))).all(axis=1)
            if bad[at].mean() > most:
                named = ", ".join(f"{name} = {value:g}" for name, value in zip(coordinates, point, strict=True))
                raise MeasuredWorseError(
                    f"{int(bad[at].sum())} of {int(at.sum())} {kind} samples at {named} failed or flipped, "
                    f"expected at most {most:.1%}",
                    place=place,
                    hint="lower word_line_v or pulse_s, or widen range_v; `failures` in the file gives the reasons",
                )
