"""Samples to a surrogate: moments at each count, curves through them, and the error of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from jaxtyping import Bool, Float

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES, STATUS
from cosim.campaign.recipe import FEWEST_COUNTS
from cosim.errors import InputError, MeasuredWorseError
from cosim.surrogate.comparator_gradient import Gradients, check_gradients, gradients_of, offset_group
from cosim.surrogate.curves import INTERVALS, falling_curve, skew_curve, variance_curve
from cosim.surrogate.estimates import LEAST_SIGMA_V, Estimates, Group
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate
from cosim.surrogate.validate import validate, validate_comparator

HELD_OUT = 4
"""Every fourth sample, or batch of samples, checks the fit and takes no part in it."""

FEWEST_SAMPLES = 8
"""Good samples at a point without which its sigma would be a guess."""

BOOTSTRAPS = 200
"""Perturbed estimates from which the errors of the curves are taken."""


_FINE = 8
"""Pieces of the mean's spline where fewer do not follow points that are known well."""

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

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ColumnSamples:
        """The reads where the mask is set."""
        return _chosen(self, mask)


@dataclass(frozen=True, slots=True)
class ComparatorSamples:
    """Good offsets of one comparator, with their levels and the sample's index.

    Args:
        batch: As in `ColumnSamples`.
        control: The drawn shift of each device in sigmas; None in files that do not say it.
    """

    level_v: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    offset_v: Float[np.ndarray, " read"]
    batch: Float[np.ndarray, " read"] | None = None
    control: Float[np.ndarray, "read device"] | None = None

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ComparatorSamples:
        """The offsets where the mask is set."""
        return _chosen(self, mask)


def fit(samples: Path, *, max_failure_rate: float = 0.01) -> Surrogate:
    """Fit and check a surrogate from a file of samples, or a folder with `samples.h5`.

    A point at which any sample flipped is masked: none of its samples are fitted or checked, and the validation
    figure `masked_points` says how many points there are of this kind.

    Args:
        max_failure_rate: The largest share of reads that failed or flipped at any point.

    Raises:
        MeasuredWorseError: More failed or flipped than `max_failure_rate`.
        InputError: The file is damaged, incomplete, of another type, of a column of one line, or has too few counts;
            or no such rate.
    """
    if not 0 <= max_failure_rate <= 1:
        raise InputError(f"max_failure_rate = {max_failure_rate:g}, expected 0 to 1")
    path = samples / "samples.h5" if samples.is_dir() else samples
    content = hdf5.read(path, filetype=SAMPLES[0], major=SAMPLES[1][0])
    table = {name: data.values for name, data in content.datasets.items()}
    try:
        rows = int(cast(int, content.attributes["rows"]))
        _check_failures(table, max_failure_rate, str(path))
        reads, masked = _column_samples(table, rows)
        offsets = _comparator_samples(table, content.attributes)
        gradients = gradients_of(table, list(offsets))
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise InputError(f"incomplete samples: {error}", place=str(path)) from error
    if not np.isfinite(reads.blb_v).all():
        raise InputError(
            "a column of one line: this version fits lines that only the rows of one sign pull",
            place=str(path),
            hint="the samples themselves are in the file",
        )
    all_on = reads.n_minus + reads.n_plus == rows
    held_out = _held_out(reads)
    line = fit_line(reads.chosen(all_on & ~held_out), rows)
    comparators: dict[Sensing, ComparatorModel] = {
        sensing: fit_comparator(name, each.chosen(~_held_out(each)), gradients.get(sensing))
        for sensing, (name, each) in offsets.items()
    }
    provenance = {name: value for name, value in content.attributes.items() if isinstance(value, str | int | float)}
    provenance["samples_sha256"] = hdf5.content_hash(content)
    bare = Surrogate(line, comparators, {}, provenance)
    checks = validate(bare, reads, held_out) | {"masked_points": float(masked)}
    for sensing, (_, each) in offsets.items():
        figures = validate_comparator(comparators[sensing], each.chosen(_held_out(each)))
        checks |= {f"{sensing}_offset_{name}": value for name, value in figures.items()}
        figures = check_gradients(gradients[sensing], each) if sensing in gradients else {}
        checks |= {f"{sensing}_sensitivity_{name}": value for name, value in figures.items()}
    return Surrogate(line, comparators, checks, provenance)


def fit_line(reads: ColumnSamples, rows: int) -> LineModel:
    """The line model of all-rows-on reads, with its errors (fixed seed: the fit is a pure function).

    BL at `n_minus` and BLB at `n_plus` are samples of the same curve.

    Raises:
        InputError: Too few different counts, or too few samples at one.
    """
    count, groups = _line_groups(reads)
    _check_sizes(groups, "column samples at a count")
    different = np.unique(count).size
    if different < FEWEST_COUNTS:
        raise InputError(
            f"{different} different counts, expected at least {FEWEST_COUNTS}", hint="add counts to column.n_minus"
        )
    found = Estimates.of(groups)
    intervals = _intervals(count, found, rows)
    generator = np.random.default_rng(0)
    again = np.array([_curves(count, found.perturbed(generator), rows, intervals) for _ in range(BOOTSTRAPS)])
    curves = _curves(count, found, rows, intervals)
    misfit = _misfit(count, found, curves, intervals)
    return LineModel(*curves, *(again.std(axis=0, ddof=1) * misfit[:, None]))


def fit_comparator(name: str, offsets: ComparatorSamples, gradients: Gradients | None = None) -> ComparatorModel:
    """The moments of a comparator's offsets at each level.

    Args:
        gradients: Of the offset, where they were measured: what they predict of each sample is then its control.

    Raises:
        InputError: Too few offsets at a level.
    """
    levels = np.unique(offsets.level_v)
    groups = [offset_group(offsets.chosen(offsets.level_v == level), gradients) for level in levels]
    _check_sizes(groups, f"offsets of {name} at a level")
    found = Estimates.of(groups)
    sigma_v = np.sqrt(found.variance)
    return ComparatorModel(
        amplifier=name,
        level_v=levels,
        offset_mean_v=found.mean_v,
        offset_sigma_v=sigma_v,
        offset_skew=np.array([_shrunk(*each) for each in zip(found.skew, found.skew_error, strict=True)]),
        sigma_error_v=sigma_v / np.sqrt(2 * found.freedom),
        samples=min(group.volts.size for group in groups),
    )


def _shrunk(skew: float, error: float) -> float:
    """The skewness times 1 - (error / skewness)^2, the share that is not noise; 0 within its standard error.

    The factor is James and Stein's for one value.
    """
    return float(skew * max(0.0, 1 - (error / skew) ** 2)) if skew else 0.0


def _line_groups(reads: ColumnSamples) -> tuple[Float[np.ndarray, " point"], list[Group]]:
    """BL's reads at each `n_minus` and BLB's at each `n_plus`, with these counts.

    The lines are the same curve, but rows of a weight pull them through different devices: their controls differ.
    """
    counts: list[float] = []
    groups: list[Group] = []
    lines = ((reads.n_minus, reads.bl_v, reads.control_bl), (reads.n_plus, reads.blb_v, reads.control_blb))
    for count, volts, control in lines:
        line = Group(volts, control, reads.batch)
        counts += np.unique(count).tolist()
        groups += [line.chosen(count == n) for n in np.unique(count)]
    return np.array(counts), groups


def _intervals(count: Float[np.ndarray, " point"], found: Estimates, rows: int) -> int:
    """Pieces of the mean's spline: more where the usual ones miss the points, and counts are close enough for it."""
    misfit = _misfit(count, found, _curves(count, found, rows, INTERVALS), INTERVALS)[0]
    gaps = np.diff(np.unique(count))
    return _FINE if misfit > np.sqrt(2) and gaps.max() <= rows / _FINE else INTERVALS


def _curves(
    count: Float[np.ndarray, " point"], found: Estimates, rows: int, intervals: int
) -> Float[np.ndarray, "moment count"]:
    sigma_v = np.sqrt(variance_curve(count, found.variance, found.variance_samples, rows))
    mean = falling_curve(count, found.mean_v, found.mean_error_v, rows, intervals)
    return np.array([mean, sigma_v, skew_curve(count, found.skew, found.skew_samples, rows)])


def _misfit(
    count: Float[np.ndarray, " point"], found: Estimates, curves: Float[np.ndarray, "moment count"], intervals: int
) -> Float[np.ndarray, " moment"]:
    """How much farther than their errors the points lie from each curve, where that is more than chance.

    The root of the reduced chi-square (Birge, Phys. Rev. 40, 1932): with small errors, what is wrong is the form of
    the curve, and that shows only in what it leaves over.
    """
    mean, sigma_v, skew = curves[:, count.astype(int)]
    some = found.spread & (count > 0)
    left = (
        (found.mean_v - mean) / found.mean_error_v,
        (found.variance / np.maximum(sigma_v, LEAST_SIGMA_V) ** 2 - 1) * np.sqrt(found.freedom / 2),
        (found.skew - skew) / found.skew_error,
    )
    # Coefficients of the curves of mean, variance and skewness.
    freedom = [max(int(some.sum()) - terms, 1) for terms in (intervals + 3, 4, 3)]
    squares = [float(np.sum(each[some] ** 2)) / free for each, free in zip(left, freedom, strict=True)]
    return np.sqrt(np.maximum(squares, 1.0))


def _chosen(reads: Reads, mask: Bool[np.ndarray, " read"]) -> Reads:
    values = {each.name: getattr(reads, each.name) for each in fields(reads)}
    return replace(reads, **{name: each[mask] for name, each in values.items() if each is not None})


def _held_out(reads: ColumnSamples | ComparatorSamples) -> Bool[np.ndarray, " read"]:
    """Every fourth batch: of a point set as a whole, since its samples are even together only."""
    return (reads.sample if reads.batch is None else reads.batch) % HELD_OUT == HELD_OUT - 1


def _column_samples(table: Mapping[str, np.ndarray], rows: int) -> tuple[ColumnSamples, int]:
    """The good samples of the points without a flip, and the number of the others."""
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
    if (points < 0).any() or (points.sum(axis=1) > rows).any() or not np.isfinite(reads.bl_v).all():
        raise ValueError(f"counts that {rows} rows cannot have, or a good sample without a voltage")
    return reads, int(masked.sum())


def _comparator_samples(
    table: Mapping[str, np.ndarray], attributes: Mapping[str, object]
) -> dict[Sensing, tuple[str, ComparatorSamples]]:
    """Each comparator's name and good offsets, by its sensing."""
    names: list[str] = json.loads(str(attributes["amplifiers"]))
    sensings: list[Sensing] = json.loads(str(attributes["sensing"]))
    found: dict[Sensing, tuple[str, ComparatorSamples]] = {}
    for index, (name, sensing) in enumerate(zip(names, sensings, strict=True)):
        if sensing not in ("single_ended", "differential"):
            raise ValueError(f"sensing {sensing!r}")
        mine = (table["comparator_amplifier"] == index) & (table["comparator_status"] == 0)
        fields = (table[f"comparator_{each}"][mine].astype(float) for each in ("level_v", "sample", "offset_v"))
        since = _optional(table, "comparator", ("batch", "control"), mine)
        if "control" in since:
            # Amplifiers with fewer devices than the largest have empty columns.
            since["control"] = since["control"][:, np.isfinite(since["control"]).all(axis=0)]
        found[sensing] = (str(name), ComparatorSamples(*fields, **since))
    return found


def _optional(
    table: Mapping[str, np.ndarray], kind: str, names: Iterable[str], mask: Bool[np.ndarray, " read"]
) -> dict[str, Float[np.ndarray, "read *control"]]:
    """What an older file may not have."""
    return {name: table[f"{kind}_{name}"][mask].astype(float) for name in names if f"{kind}_{name}" in table}


def _check_sizes(groups: Iterable[Group], what: str) -> None:
    fewest = min((group.volts.size for group in groups), default=0)
    if fewest < FEWEST_SAMPLES:
        raise InputError(f"{fewest} {what}, expected at least {FEWEST_SAMPLES}", hint="raise samples in the recipe")


def _check_failures(table: Mapping[str, np.ndarray], most: float, place: str) -> None:
    """Refuse samples of which too many failed or flipped: what is left would be biased."""
    level = ("amplifier", "level_v")
    for kind, coordinates in (("column", ("n_minus", "n_plus")), ("comparator", level), ("sensitivity", level)):
        if f"{kind}_status" not in table:
            continue
        bad = table[f"{kind}_status"] != 0
        where = np.stack([table[f"{kind}_{name}"].astype(float) for name in coordinates], axis=1)
        for point in np.unique(where, axis=0):
            at = (where == point).all(axis=1)
            if bad[at].mean() > most:
                named = ", ".join(f"{name} = {value:g}" for name, value in zip(coordinates, point, strict=True))
                raise MeasuredWorseError(
                    f"{int(bad[at].sum())} of {int(at.sum())} {kind} samples at {named} failed or flipped, "
                    f"expected at most {most:.1%}",
                    place=place,
                    hint="lower word_line_v or pulse_s, or widen range_v; `failures` in the file gives the reasons",
                )
