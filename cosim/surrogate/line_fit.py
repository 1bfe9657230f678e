"""Reads of a column to the curves of its bit lines, with the errors of both."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from cosim.campaign.recipe import FEWEST_COUNTS
from cosim.errors import InputError
from cosim.surrogate.curves import INTERVALS, falling_curve, skew_curve, variance_curve
from cosim.surrogate.estimates import LEAST_SIGMA_V, Estimates, Group, check_sizes
from cosim.surrogate.model import LineModel
from cosim.surrogate.samples import ColumnSamples
from cosim.surrogate.two_count import TwoCountModel
from cosim.surrogate.two_count_fit import Powers, choose_powers, fit_two_count, groups_of

BOOTSTRAPS = 200
"""Perturbed estimates, or resampled reads, from which the errors of the curves are taken."""

_FINE = 8
"""Pieces of the mean's spline where fewer do not follow points that are known well."""


def fit_line(reads: ColumnSamples, rows: int) -> LineModel:
    """The line model of all-rows-on reads, with its errors (fixed seed: the fit is a pure function).

    BL at `n_minus` and BLB at `n_plus` are samples of the same curve.

    Raises:
        InputError: Too few different counts, or too few samples at one.
    """
    count, groups = _line_groups(reads)
    check_sizes((group.volts.size for group in groups), "column samples at a count")
    _check_counts(np.unique(count).size)
    found = Estimates.of(groups)
    intervals = _intervals(count, found, rows)
    generator = np.random.default_rng(0)
    again = np.array([_curves(count, found.perturbed(generator), rows, intervals) for _ in range(BOOTSTRAPS)])
    curves = _curves(count, found, rows, intervals)
    misfit = _misfit(count, found, curves, intervals)
    return LineModel(*curves, *(again.std(axis=0, ddof=1) * misfit[:, None]))


def fit_lines_in_both(
    reads: ColumnSamples, rows: int, powers: Powers | None = None
) -> tuple[LineModel, TwoCountModel, dict[str, float]]:
    """A model in both counts, its curve with all rows on with bootstrap errors, and its cross-validated errors.

    Raises:
        InputError: No reads with all rows on, too few different counts, or too few samples at one.
    """
    groups = groups_of(reads)
    if not (groups.own + groups.other == rows).any():
        raise InputError(f"no reads with all {rows} rows on", hint=f"add {rows} to column.active_rows")
    _check_counts(np.unique(groups.own).size)
    powers, figures = choose_powers(groups, rows, powers)
    model = fit_two_count(groups, powers, rows, reads.lines)
    generator, count = np.random.default_rng(0), np.arange(rows + 1.0)

    def all_on(found: TwoCountModel) -> np.ndarray:
        moments = found.at(count, rows - count)
        return np.array([moments.mean_v, moments.sigma_v, moments.skew])

    again = np.array([
        all_on(fit_two_count(groups.perturbed(generator), powers, rows, reads.lines)) for _ in range(BOOTSTRAPS)
    ])  # fmt: skip
    return LineModel(*all_on(model), *again.std(axis=0, ddof=1)), model, figures


def _check_counts(different: int) -> None:
    if different < FEWEST_COUNTS:
        raise InputError(
            f"{different} different counts, expected at least {FEWEST_COUNTS}", hint="add counts to column.n_minus"
        )


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
