"""Samples as a fit takes them: the good reads of a file, by operating point, and what went wrong with the others."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from cosim.campaign.filetypes import STATUS
from cosim.errors import MeasuredWorseError
from cosim.surrogate.moments import Sensing

HELD_OUT = 4
"""Every fourth sample, or batch of samples, checks the fit and takes no part in it."""

MOST_ROWS = 1024
"""Rows of a column, as in the contracts of the cells."""

_LARGEST = 1e3
"""Volts, and standard deviations of a draw."""

Table = Mapping[str, np.ndarray]
"""A file's datasets by name."""

Reads = TypeVar("Reads", "ColumnSamples", "ComparatorSamples")


@dataclass(frozen=True, slots=True)
class ColumnSamples:
    """Good column samples: voltages with the counts they were read at and the sample's index.

    Args:
        batch: The independently randomised batch of each; None where it is the sample itself.
        control_bl: What the draw tells of BL, each of mean 0 and variance 1; None in files that do not say it.
        control_blb: The same of BLB.
    """

    n_minus: Float[np.ndarray, " read"]
    n_plus: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    bl_v: Float[np.ndarray, " read"]
    blb_v: Float[np.ndarray, " read"]
    batch: Float[np.ndarray, " read"] | None = None
    control_bl: Float[np.ndarray, "read control"] | None = None
    control_blb: Float[np.ndarray, "read control"] | None = None

    @property
    def lines(self) -> int:
        """1 for a column of one line, whose BLB is nowhere a number; else 2."""
        return 1 if self.blb_v.size and np.isnan(self.blb_v).all() else 2

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ColumnSamples:
        """The reads where the mask is set."""
        return _chosen(self, mask)


@dataclass(frozen=True, slots=True)
class ComparatorSamples:
    """Good offsets of one comparator, with their levels, common modes and the sample's index.

    Args:
        common_mode_v: Not a number where the file does not say, as those of version 1.0.
        batch: As in `ColumnSamples`.
        control: The drawn shift of each device in sigmas; None in files that do not say it.
    """

    level_v: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    offset_v: Float[np.ndarray, " read"]
    common_mode_v: Float[np.ndarray, " read"]
    batch: Float[np.ndarray, " read"] | None = None
    control: Float[np.ndarray, "read device"] | None = None

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ComparatorSamples:
        """The offsets where the mask is set."""
        return _chosen(self, mask)


def held_out(reads: ColumnSamples | ComparatorSamples) -> Bool[np.ndarray, " read"]:
    """Which samples check the fit: of a point set whole batches, since its samples are even together only."""
    return (reads.sample if reads.batch is None else reads.batch) % HELD_OUT == HELD_OUT - 1


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
    since = ("batch", "control_bl", "control_blb")  # version 1.1
    reads = ColumnSamples(
        *(table[f"column_{name}"][good].astype(float) for name in names), **_optional(table, "column", since, good)
    )
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"{rows} rows, expected 1 to {MOST_ROWS}")
    if (points < 0).any() or (points.sum(axis=1) > rows).any() or (points != np.rint(points)).any():
        raise ValueError(f"counts that {rows} rows cannot have")
    if not np.isfinite(reads.bl_v).all():
        raise ValueError("a good sample without a voltage")
    _check_values(np.nan_to_num(reads.bl_v), np.nan_to_num(reads.blb_v), reads.control_bl, reads.control_blb)
    if reads.lines == 2 and not np.isfinite(reads.blb_v).all():
        raise ValueError("good samples with a voltage of BLB and others without one")
    return reads, int(masked.sum())


def comparator_samples(
    table: Table, attributes: Mapping[str, object], *, good: bool = True
) -> dict[Sensing, tuple[str, ComparatorSamples]]:
    """Each comparator's name and offsets, by its sensing; only the good ones, or all that were tried."""
    names: list[str] = json.loads(str(attributes["amplifiers"]))
    sensings: list[Sensing] = json.loads(str(attributes["sensing"]))
    found: dict[Sensing, tuple[str, ComparatorSamples]] = {}
    for index, (name, sensing) in enumerate(zip(names, sensings, strict=True)):
        if sensing not in ("single_ended", "differential"):
            raise ValueError(f"sensing {sensing!r}")
        mine = (table["comparator_amplifier"] == index) & ((table["comparator_status"] == 0) | (not good))
        level_v, sample, offset_v = (
            table[f"comparator_{each}"][mine].astype(float) for each in ("level_v", "sample", "offset_v")
        )
        # The level of a single-ended comparator is its common mode, which then says nothing of its own.
        known = "comparator_common_mode_v" in table and sensing == "differential"
        mode_v = table["comparator_common_mode_v"][mine].astype(float) if known else np.full(mine.sum(), np.nan)
        since = _optional(table, "comparator", ("batch", "control"), mine)
        if "control" in since:
            # Amplifiers with fewer devices than the largest have empty columns.
            since["control"] = since["control"][:, np.isfinite(since["control"]).all(axis=0)]
        _check_values(level_v, np.nan_to_num(offset_v), np.nan_to_num(mode_v), since.get("control"))
        found[sensing] = (str(name), ComparatorSamples(level_v, sample, offset_v, mode_v, **since))
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
    for kind in ("column", "comparator"):  # Without a perturbed comparator there is no gradient, and that is all.
        for named, at in _failed_points(table, kind, most):
            bad = table[f"{kind}_status"][at] != 0
            raise MeasuredWorseError(
                f"{int(bad.sum())} of {int(at.sum())} {kind} samples at {named} failed or flipped, "
                f"expected at most {most:.1%}",
                place=place,
                hint="lower word_line_v or pulse_s, or widen range_v; `failures` in the file gives the reasons",
            )


def without_failed_levels(table: Table, most: float) -> dict[str, np.ndarray]:
    """A table without the reference levels of a comparator at which too many samples failed, at any common mode."""
    kept = dict(table)
    for _, at in _failed_points(table, "comparator", most):
        amplifier, level_v = table["comparator_amplifier"][at][0], table["comparator_level_v"][at][0]
        for kind in ("comparator", "sensitivity"):
            if f"{kind}_status" not in kept:
                continue
            gone = (kept[f"{kind}_amplifier"] == amplifier) & (kept[f"{kind}_level_v"] == level_v)
            kept |= {name: values[~gone] for name, values in kept.items() if name.startswith(f"{kind}_")}
    return kept


def _failed_points(table: Table, kind: str, most: float) -> Iterator[tuple[str, Bool[np.ndarray, " read"]]]:
    """The points of a kind at which more samples failed or flipped than `most`: in words, and their reads."""
    if f"{kind}_status" not in table:
        return
    coordinates = ("n_minus", "n_plus") if kind == "column" else ("amplifier", "level_v")
    if f"{kind}_common_mode_v" in table:
        coordinates = (*coordinates, "common_mode_v")
    bad = table[f"{kind}_status"] != 0
    where = np.stack([table[f"{kind}_{name}"].astype(float) for name in coordinates], axis=1)
    for point in np.unique(where, axis=0):
        at = ((where == point) | (np.isnan(where) & np.isnan(point))).all(axis=1)
        if bad[at].mean() > most:
            yield ", ".join(f"{name} = {value:g}" for name, value in zip(coordinates, point, strict=True)), at


def _check_values(*tables: np.ndarray | None) -> None:
    """Refuse what no simulation gives: the fit's arithmetic would overflow or not converge."""
    for values in tables:
        if values is not None and not (np.abs(values) < _LARGEST).all():
            raise ValueError(f"a value that is no number below {_LARGEST:g}")


def _chosen(reads: Reads, mask: Bool[np.ndarray, " read"]) -> Reads:
    values = {each.name: getattr(reads, each.name) for each in fields(reads)}
    return replace(reads, **{name: each[mask] for name, each in values.items() if each is not None})


def _optional(
    table: Mapping[str, np.ndarray], kind: str, names: Iterable[str], mask: Bool[np.ndarray, " read"]
) -> dict[str, Float[np.ndarray, "read *control"]]:
    """What an older file may not have."""
    return {name: table[f"{kind}_{name}"][mask].astype(float) for name in names if f"{kind}_{name}" in table}
