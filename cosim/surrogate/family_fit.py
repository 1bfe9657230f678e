"""Samples at several operating points to a family of surrogates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cosim.campaign.filetypes import STATUS
from cosim.errors import InputError, MeasuredWorseError
from cosim.surrogate.family import SurrogateFamily, family_of
from cosim.surrogate.fit import fit_table, powers_of
from cosim.surrogate.model import Surrogate
from cosim.surrogate.operating import OperatingPoint, point_of
from cosim.surrogate.samples import ComparatorSamples, Table, comparator_samples, without_failed_levels
from cosim.surrogate.two_count_fit import Powers

Provenance = Mapping[str, str | int | float]


def fit_family(
    table: Table,
    provenance: Provenance,
    records: Sequence[Mapping[str, Any]],
    *,
    max_failure_rate: float,
    place: str,
) -> SurrogateFamily:
    """Fit every operating point on its own; a point with a flipped cell or too many failures is masked.

    Of a comparator, the reference levels with too many failures are masked, not the whole point.

    Raises:
        MeasuredWorseError: Every point is masked.
        InputError: Incomplete samples, or points that cannot be fitted with one model.
    """
    try:
        points = [point_of(record) for record in records]
        tables = [of_point(table, i, points) for i in range(len(points))]
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise InputError(f"incomplete samples: {error}", place=place) from error
    masked = [_flips(each) for each in tables]
    powers = _common([powers_of(t, provenance, place) for t, said in zip(tables, masked, strict=True) if not said])
    surrogates: list[Surrogate | None] = []
    for i, each in enumerate(tables):
        found: Surrogate | None = None
        if not masked[i]:
            try:
                kept = without_failed_levels(each, max_failure_rate)
                fitted = fit_table(kept, provenance, max_failure_rate=max_failure_rate, place=place, powers=powers)
                found = _on_all_levels(fitted, each, table, provenance)
            except MeasuredWorseError as error:
                masked[i] = error.message
            except InputError as error:
                raise InputError(f"{points[i]}: {error.message}", place=error.place, hint=error.hint) from error
        surrogates.append(found)
    if all(masked):
        raise MeasuredWorseError(f"every operating point is masked; {points[0]}: {masked[0]}", place=place)
    provenance = {name: value for name, value in provenance.items() if name != "points"}  # the family says it
    own = {*OperatingPoint.__slots__}
    levels = [{name: value for name, value in record.items() if name not in own} for record in records]
    return _with_place(points, surrogates, masked, provenance, levels, place)


def of_point(table: Table, index: int, points: Sequence[OperatingPoint]) -> dict[str, np.ndarray]:
    """One operating point's part of a table.

    A comparator has no bias: where a point has no offsets of its own, those of another point of the same corner, supply
    and temperature are its own too.
    """
    mine: dict[str, np.ndarray] = {}
    for kind in ("column", "comparator", "sensitivity"):
        if f"{kind}_status" not in table:
            continue
        point = table[f"{kind}_point"]
        if point.size and (point.min() < 0 or point.max() >= len(points)):
            raise ValueError(f"{kind}_point beyond the {len(points)} operating points")
        chosen = point == index
        if kind != "column" and not chosen.any():
            same = [i for i, each in enumerate(points) if _corner(each) == _corner(points[index])]
            chosen = point == next((i for i in same if (point == i).any()), index)
        mine |= {name: values[chosen] for name, values in table.items() if name.startswith(f"{kind}_")}
    return mine


def _on_all_levels(found: Surrogate, tried: Table, all_points: Table, provenance: Provenance) -> Surrogate:
    """The same comparator levels and common modes at every operating point.

    Levels are masked where too many of their samples failed. Where a recipe left some out, as they lie above the
    point's supply, they are as the nearest one.

    Raises:
        MeasuredWorseError: All levels of a common mode failed.
    """
    models, figures = dict(found.comparators), dict(found.validation)
    everywhere = comparator_samples(all_points, provenance, good=False)
    for sensing, (name, offsets) in comparator_samples(tried, provenance, good=False).items():
        model, wanted = models[sensing], everywhere[sensing][1]
        lost = np.setdiff1d(_modes(offsets), model.common_mode_v)
        if lost.size:
            raise MeasuredWorseError(f"too many samples of {name} failed at a common mode of {lost[0]:g} V")
        model = model.at_levels(np.unique(offsets.level_v))
        figures |= {f"{sensing}_masked_levels": float((~model.good).sum())}
        models[sensing] = model.extended(np.unique(wanted.level_v), _modes(wanted))
    return replace(found, comparators=models, validation=figures)


def _modes(offsets: ComparatorSamples) -> Float[np.ndarray, " mode"]:
    """The common modes that a file names."""
    return np.unique(offsets.common_mode_v[np.isfinite(offsets.common_mode_v)])


def _corner(point: OperatingPoint) -> tuple[str, float, float]:
    return (point.process, point.vdd_v, point.temp_c)


def _flips(table: Table) -> str:
    """Why a point is masked for its flips; empty where there are none."""
    flipped, reads = int((table["column_status"] == STATUS.index("flipped")).sum()), table["column_status"].size
    if not reads:
        return "no samples"
    return f"a cell flipped in {flipped} of {reads} samples" if flipped else ""


def _common(powers: Sequence[Powers | None]) -> Powers | None:
    """For each moment the most terms that any point needs, as curves are interpolated term by term."""
    there = [each for each in powers if each is not None]
    if not there:
        return None
    most = {name: max((getattr(each, name) for each in there), key=len) for name in Powers.__slots__}
    return Powers(**most)


def _with_place(
    points: Sequence[OperatingPoint],
    surrogates: Sequence[Surrogate | None],
    masked: Sequence[str],
    provenance: Provenance,
    levels: Sequence[Mapping[str, object]],
    place: str,
) -> SurrogateFamily:
    try:
        return family_of(points, surrogates, masked, provenance, levels)
    except InputError as error:
        raise InputError(error.message, place=place, hint=error.hint) from error
