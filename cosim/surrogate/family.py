"""A surrogate at each of several operating points, and between them: interpolated with a stated error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from cosim.errors import InputError
from cosim.surrogate.between import Chooser, unit_axes, weights
from cosim.surrogate.blocks import blocks_of, check_alike, surrogate_from
from cosim.surrogate.model import Surrogate
from cosim.surrogate.operating import AXES, BIAS, OperatingPoint, Request
from cosim.surrogate.polynomial import inner_points, within_hull

INTERPOLATION = "interpolation_"
"""Prefix of the validation figures of a surrogate that lies between operating points."""


@dataclass(frozen=True, slots=True)
class SurrogateFamily:
    """Surrogates by operating point.

    Args:
        points: The simulated operating points.
        surrogates: One a point; None where the point is masked.
        masked: Why a point is masked; empty where it is not.
        errors: By process corner, the rms errors of predicting a point from the others; see `left_out_figures`.
        provenance: Of the samples, as in a surrogate.
        levels: One a point: what else the samples say of it, such as the fast column's error.
    """

    points: tuple[OperatingPoint, ...]
    surrogates: tuple[Surrogate | None, ...]
    masked: tuple[str, ...]
    errors: Mapping[str, Mapping[str, float]]
    provenance: Mapping[str, str | int | float]
    levels: tuple[Mapping[str, object], ...] = ()

    @property
    def processes(self) -> tuple[str, ...]:
        """The process corners, in their order."""
        return tuple(dict.fromkeys(point.process for point in self.points))

    def at(
        self,
        process: str | None = None,
        *,
        vdd_v: float | None = None,
        temp_c: float | None = None,
        word_line_v: float | None = None,
        pulse_s: float | None = None,
    ) -> Surrogate:
        """The surrogate at an operating point: the simulated one itself, or one between them.

        Between points, mean, log sigma and skew of line and offsets are interpolated; the validation figures
        `interpolation_*` state the error. What is not given is the only value that was simulated; a bias that was found
        for each corner (`auto`) is interpolated with the rest.

        Raises:
            InputError: A corner that was not simulated, a value outside those that were, or one that has to be given;
                or a neighbouring point is masked.
        """
        asked = Request(process, vdd_v, temp_c, word_line_v, pulse_s)
        corner = self._corner(asked)
        mine = [i for i, point in enumerate(self.points) if point.process == corner]
        axes, values = self._asked(asked, corner, mine)
        places = np.array([self.points[i].coordinates for i in mine])[:, axes]
        self._check_range(corner, axes, values, places)
        same = np.flatnonzero(np.isclose(places, values, rtol=1e-9, atol=0).all(axis=1))
        if same.size:
            return self._simulated(mine[int(same[0])])
        self._check_neighbours(mine, places, values)
        good = np.array([self.surrogates[i] is not None for i in mine])
        known = [i for i, is_good in zip(mine, good, strict=True) if is_good]
        if not known or not within_hull(values, places[good]):
            raise InputError(
                f"{_named(axes, values)} lies outside the hull of the {len(known)} points simulated at {corner}",
                hint="nothing is extrapolated",
            )
        return self._between(corner, known, axes, values, places[good])

    def save(self, path: str | Path) -> None:
        """Write the family as an HDF5 file; see `cosim.surrogate.family_files.save_family`."""
        from cosim.surrogate.family_files import save_family  # Not above: it imports this module.

        save_family(self, Path(path))

    def _corner(self, asked: Request) -> str:
        known = ", ".join(self.processes)
        if asked.process is None and len(self.processes) > 1:
            raise InputError("no process corner given", hint=f"simulated: {known}")
        corner = asked.process or next(iter(self.processes))
        if corner not in self.processes:
            raise InputError(f"process corner {corner} was not simulated", hint=f"simulated: {known}")
        return corner

    def _asked(self, asked: Request, corner: str, mine: Sequence[int]) -> tuple[list[int], np.ndarray]:
        """The axes that are asked for or have one value alone, and the values along them."""
        axes: list[int] = []
        values: list[float] = []
        for index, name in enumerate(AXES):
            known, value = sorted({getattr(self.points[i], name) for i in mine}), getattr(asked, name)
            if value is None and len(known) > 1:
                if name in BIAS and self._follows(mine):
                    continue
                span = f"{known[0]:g} to {known[-1]:g}"
                raise InputError(f"no {name} given", hint=f"{corner} was simulated from {span}")
            axes.append(index)
            values.append(float(known[0] if value is None else value))
        return axes, np.array(values)

    def _follows(self, mine: Sequence[int]) -> bool:
        """Whether there is one bias alone at each supply and temperature."""
        return len({(self.points[i].vdd_v, self.points[i].temp_c) for i in mine}) == len(mine)

    def _check_range(self, corner: str, axes: list[int], values: np.ndarray, places: np.ndarray) -> None:
        for column, axis in enumerate(axes):
            low, high, value = places[:, column].min(), places[:, column].max(), values[column]
            slack = 1e-9 * max(abs(low), abs(high))
            if not low - slack <= value <= high + slack:
                known = f"{low:g} to {high:g}" if low < high else f"{low:g} alone"
                raise InputError(
                    f"{AXES[axis]} = {value:g}, but {corner} was simulated at {known}", hint="nothing is extrapolated"
                )

    def _check_neighbours(self, mine: Sequence[int], places: np.ndarray, values: np.ndarray) -> None:
        """Refuse where a masked point is at a corner of the cell of the grid around the values."""
        near = np.ones(len(places), bool)
        for column, value in enumerate(values):
            known, slack = np.unique(places[:, column]), 1e-9 * np.abs(places[:, column]).max()
            low = known[known <= value + slack].max(initial=known[0])
            high = known[known >= value - slack].min(initial=known[-1])
            near &= (places[:, column] >= low) & (places[:, column] <= high)
        for i, is_near in zip(mine, near, strict=True):
            if is_near and self.masked[i]:
                raise InputError(f"the neighbouring point {self.points[i]} is masked: {self.masked[i]}")

    def _simulated(self, index: int) -> Surrogate:
        found = self.surrogates[index]
        if found is None:
            raise InputError(f"the point {self.points[index]} is masked: {self.masked[index]}")
        about = {"operating_point": str(self.points[index]), "interpolated": 0}
        return replace(found, provenance=dict(self.provenance) | about)

    def _between(
        self, corner: str, known: Sequence[int], axes: list[int], values: np.ndarray, places: np.ndarray
    ) -> Surrogate:
        surrogates = [each for i in known if (each := self.surrogates[i]) is not None]
        found = interpolated(surrogates, places, values)
        errors = self.errors.get(corner, {})
        line = replace(
            found.line,
            mean_error_v=np.hypot(found.line.mean_error_v, 1e-3 * errors.get("mean_mv", 0.0)),
            sigma_error_v=np.hypot(found.line.sigma_error_v, found.line.sigma_v * errors.get("sigma_relative", 0.0)),
            skew_error=np.hypot(found.line.skew_error, errors.get("skew", 0.0)),
        )
        # In units of the largest value, as a pulse is of 1e-10.
        everywhere = np.array([self.points[i].coordinates for i in known])
        unit = np.maximum(np.abs(everywhere).max(axis=0), 1e-300)
        full = unit * np.array(_at(places, list((everywhere / unit).T[:, :, None]), values))[:, 0]
        full[axes] = values
        about = {"operating_point": str(OperatingPoint(corner, *map(float, full))), "interpolated": 1}
        figures = {f"{INTERPOLATION}{name}": value for name, value in errors.items()}
        return replace(found, line=line, validation=figures, provenance=dict(self.provenance) | about)


def family_of(
    points: Sequence[OperatingPoint],
    surrogates: Sequence[Surrogate | None],
    masked: Sequence[str],
    provenance: Mapping[str, str | int | float],
    levels: Sequence[Mapping[str, object]] = (),
) -> SurrogateFamily:
    """The family of fitted points, with the errors of its interpolation.

    Raises:
        InputError: Points that differ in their rows, levels or terms.
    """
    good = [each for each in surrogates if each is not None]
    for each in good[1:]:
        check_alike(good[0], each)
    errors: dict[str, dict[str, float]] = {}
    for corner in dict.fromkeys(point.process for point in points):
        chosen = [i for i, point in enumerate(points) if point.process == corner and surrogates[i] is not None]
        mine = [each for i in chosen if (each := surrogates[i]) is not None]
        if len(mine) > 1:
            places = np.array([points[i].coordinates for i in chosen])
            bias_follows = len({tuple(place[:2]) for place in places}) == len(places)
            errors[corner] = left_out_figures(mine, places[:, :2] if bias_follows else places)
    return SurrogateFamily(tuple(points), tuple(surrogates), tuple(masked), errors, provenance, tuple(levels))


def interpolated(
    surrogates: Sequence[Surrogate], places: Float[np.ndarray, "point axis"], at: Float[np.ndarray, " axis"]
) -> Surrogate:
    """The surrogate between others; an axis without two values has no part in it."""
    tables = [blocks_of(each) for each in surrogates]
    names = list(tables[0])
    values = [np.stack([table[name] for table in tables]) for name in names]
    return surrogate_from(dict(zip(names, _at(places, values, at), strict=True)), surrogates[0])


def left_out_figures(surrogates: Sequence[Surrogate], places: Float[np.ndarray, "point axis"]) -> dict[str, float]:
    """The rms errors of predicting an operating point from the others, one left out at a time.

    Only points between the others are left out. Where there are none (`extrapolated` is 1), all are in turn, and the
    errors are those of an extrapolation, which is more than an interpolation's.

    Returns:
        `points` left out; over the counts with all rows on `mean_mv`, `mean_counts`, `sigma_relative` (where sigma is
        over a tenth of its largest) and `skew`; of each comparator `*_offset_mean_mv` and `*_offset_sigma_relative`.
    """
    varies = np.ptp(places, axis=0) > 0
    if not varies.any():
        return {}
    inner = inner_points(unit_axes(places[:, varies])(places[:, varies]))
    every, found = np.arange(len(places)), dict[str, list[float]]()
    for i in map(int, np.flatnonzero(_left_out(places[:, varies]))):
        others = [each for j, each in enumerate(surrogates) if j != i]
        predicted = interpolated(others, places[every != i], places[i])
        for name, squared in _squared(predicted, surrogates[i]).items():
            found.setdefault(name, []).append(squared)
    figures = {name: float(np.sqrt(np.mean(values))) for name, values in found.items()}
    return {"points": float(len(found["mean_mv"])), "extrapolated": float(not inner.any())} | figures


def _left_out(points: np.ndarray) -> Bool[np.ndarray, " point"]:
    inner = inner_points(unit_axes(points)(points))
    return inner if inner.any() else np.ones(len(points), bool)


def _squared(predicted: Surrogate, true: Surrogate) -> dict[str, float]:
    """Mean squared errors over the counts or levels."""
    line, other = true.line, predicted.line
    mean_v = other.mean_v - line.mean_v
    step_v = np.maximum(np.abs(np.gradient(line.mean_v)), 1e-6)
    wide = line.sigma_v > 0.1 * line.sigma_v.max()
    found = {
        "mean_mv": 1e6 * np.mean(mean_v**2),
        "mean_counts": np.mean((mean_v / step_v) ** 2),
        "sigma_relative": np.mean((other.sigma_v[wide] / line.sigma_v[wide] - 1) ** 2) if wide.any() else 0.0,
        "skew": np.mean((other.skew - line.skew) ** 2),
    }
    for sensing, model in true.comparators.items():
        guess = predicted.comparators[sensing]
        both = model.good & guess.good
        if both.any():
            mean_v, sigma = (guess.offset_mean_v - model.offset_mean_v), guess.offset_sigma_v / model.offset_sigma_v
            found[f"{sensing}_offset_mean_mv"] = 1e6 * np.mean(mean_v[both] ** 2)
            found[f"{sensing}_offset_sigma_relative"] = np.mean((sigma[both] - 1) ** 2)
    return {name: float(value) for name, value in found.items()}


def _at(
    places: Float[np.ndarray, "point axis"], tables: Sequence[np.ndarray], at: Float[np.ndarray, " axis"]
) -> list[np.ndarray]:
    """Each table's values, (point, value), at a place between the points."""
    varies = np.ptp(places, axis=0) > 0
    if len(places) == 1 or not varies.any():
        return [values[0] for values in tables]
    scale = unit_axes(places[:, varies])
    points, here = scale(places[:, varies]), scale(at[varies])
    chooser = Chooser(points, _left_out(points))
    # What is masked at one point is masked between it and others.
    holes = [np.isnan(values).any(axis=0) for values in tables]
    filled = [np.where(hole, 0.0, values) for hole, values in zip(holes, tables, strict=True)]
    best = [chooser.best(values) for values in filled]
    known = {smoothness: weights(points, here, smoothness) for smoothness in set(best)}
    found = [known[smoothness] @ values for smoothness, values in zip(best, filled, strict=True)]
    return [np.where(hole, np.nan, values) for hole, values in zip(holes, found, strict=True)]


def _named(axes: Sequence[int], values: np.ndarray) -> str:
    return ", ".join(f"{AXES[axis]} = {value:g}" for axis, value in zip(axes, values, strict=True))
