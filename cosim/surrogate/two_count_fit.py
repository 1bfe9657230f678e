"""Reads at several numbers of active rows, or of a column of one line, to a model in both counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from cosim.errors import InputError
from cosim.surrogate.estimates import Estimates, Group, check_sizes
from cosim.surrogate.polynomial import Polynomial, features, inner_points, least_squares, left_out_errors, terms
from cosim.surrogate.samples import ColumnSamples
from cosim.surrogate.two_count import LEAST_SIGMA_V, TwoCountModel, scaled

MOST_DEGREE = {"mean": 9, "variance": 6, "skew": 3}
_GOOD_ENOUGH = 1.05
"""A smaller degree is taken if its left-out error is within this factor of the least."""
_LEAST_SHARE = 1e-2
"""Variances below this share of the largest one weigh as if they had it: they are far below a count."""
_LINES, _ALONG = 6, 25
"""At how many numbers of active rows, and counts at each, monotonicity and positive variances are demanded."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The reads of one line, by pair of counts: rows that pull it, and other rows that are on."""

    own: Float[np.ndarray, " point"]
    other: Float[np.ndarray, " point"]
    size: Int[np.ndarray, " point"]
    found: Estimates

    def perturbed(self, generator: np.random.Generator) -> Groups:
        """What other samples might have given; see `Estimates.perturbed`."""
        return replace(self, found=self.found.perturbed(generator))


@dataclass(frozen=True, slots=True)
class Powers:
    """The terms of each moment's polynomial."""

    mean: Int[np.ndarray, "mean_term 2"]
    variance: Int[np.ndarray, "variance_term 2"]
    skew: Int[np.ndarray, "skew_term 2"]


def groups_of(reads: ColumnSamples) -> Groups:
    """BL at (n_minus, n_plus), and where there are two lines BLB at (n_plus, n_minus), its mirror image."""
    bl, blb = reads.control_bl, reads.control_blb
    if reads.lines == 1:  # rows of both products move the one line
        both = None if bl is None or blb is None else np.hstack([bl, blb])
        lines = [(reads.n_minus, reads.n_plus, Group(reads.bl_v, both, reads.batch))]
    else:
        lines = [
            (reads.n_minus, reads.n_plus, Group(reads.bl_v, bl, reads.batch)),
            (reads.n_plus, reads.n_minus, Group(reads.blb_v, blb, reads.batch)),
        ]
    pairs: list[np.ndarray] = []
    groups: list[Group] = []
    for own, other, line in lines:
        where, which = np.unique(np.stack([own, other], axis=1), axis=0, return_inverse=True)
        pairs.append(where)
        groups += [line.chosen(which == i) for i in range(len(where))]
    own, other = np.concatenate(pairs).T
    check_sizes((each.volts.size for each in groups), "column samples at a count")
    return Groups(own, other, np.array([each.volts.size for each in groups]), Estimates.of(groups))


def choose_powers(groups: Groups, rows: int, given: Powers | None = None) -> tuple[Powers, dict[str, float]]:
    """The terms of each moment by cross-validation, and the errors that it finds.

    Left out is one pair of counts at a time, then all pairs of one number of active rows: between those, the model
    interpolates. The outermost of both stay, as without them the others would extrapolate.

    Args:
        given: Terms to be taken as they are, where only the errors are asked for.

    Returns:
        Powers, and the rms left-out errors `cv_mean_mv`, `cv_mean_counts`, `cv_sigma_relative`, `cv_skew`.
    """
    pairs = scaled(np.stack([groups.own, groups.other], axis=1), rows)
    inner, active = inner_points(pairs), groups.own + groups.other
    different = np.unique(active)
    most = (np.unique(groups.own).size - 1, different.size - 1)
    folds = [np.arange(active.size) == i for i in np.flatnonzero(inner)]
    folds += [active == each for each in different[1:-1]]
    if not folds:
        raise InputError("no pair of counts lies between others", hint="add counts to column.n_minus")
    mean_v, variance, skew, spread = _summary(groups)
    tried = {
        name: _candidates(most, MOST_DEGREE[name]) if given is None else [getattr(given, name)]
        for name in Powers.__slots__
    }
    mean, mean_v_error = _chosen(pairs, mean_v, 1 / spread["mean"], tried["mean"], folds)
    scale = float(variance.max())
    relative = 1 / np.maximum(variance / scale, _LEAST_SHARE)
    wide, variance_error = _chosen(pairs, variance / scale, relative, tried["variance"], folds, relative)
    third, skew_error = _chosen(pairs, skew, 1 / spread["skew"], tried["skew"], folds)
    count_v = np.ptp(mean_v) / max(1.0, np.ptp(groups.own - groups.other) / 2)
    figures = {
        "cv_mean_mv": 1e3 * mean_v_error,
        "cv_mean_counts": float(mean_v_error / max(count_v, 1e-12)),
        # The variance's relative error is twice that of sigma.
        "cv_sigma_relative": variance_error / 2,
        "cv_skew": skew_error,
    }
    return Powers(mean, wide, third), figures


def fit_two_count(groups: Groups, powers: Powers, rows: int, lines: int) -> TwoCountModel:
    """The polynomials of given terms through the reads; `lines` says how many the column has."""
    pairs = scaled(np.stack([groups.own, groups.other], axis=1), rows)
    mean_v, variance, skew, spread = _summary(groups)
    fewest = int((groups.own + groups.other).min())
    lattice = _lattice(rows, fewest)
    direction = 1 if np.corrcoef(mean_v, groups.own - groups.other)[0, 1] <= 0 else -1
    # The variance first: its curve weighs the means.
    wide = _variance(pairs, variance, groups.found.variance_samples, powers.variance, scaled(lattice, rows))
    error_v = spread["mean"]
    bound = -direction * _slopes(powers.mean, lattice, rows, fewest, lines)
    scale_v = max(float(np.ptp(mean_v)), 1e-6)
    weight = scale_v / error_v / np.sqrt(len(error_v))
    middle = float(np.average(mean_v, weights=weight**2))
    centered = (mean_v - middle) / scale_v
    mean = scale_v * least_squares(
        features(pairs, powers.mean) * weight[:, None], centered * weight, bound, np.zeros(len(bound))
    )
    mean[(powers.mean == 0).all(axis=1)] += middle
    third = least_squares(
        features(pairs, powers.skew) / spread["skew"][:, None],
        skew / spread["skew"],
        np.zeros((0, len(powers.skew))),
        np.zeros(0),
    )
    return TwoCountModel(
        rows,
        fewest,
        direction,
        lines,
        Polynomial(powers.mean, mean),
        Polynomial(powers.variance, wide),
        Polynomial(powers.skew, third),
    )


def _summary(groups: Groups) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Mean, variance and skewness at each pair, and how far the mean and the skewness may be off by chance."""
    found = groups.found
    mean_v, variance = found.mean_v, np.maximum(found.variance, LEAST_SIGMA_V**2)
    wide = variance > (2 * LEAST_SIGMA_V) ** 2
    skew = np.where(wide, found.skew, 0.0)
    spread = {
        "mean": np.maximum(found.mean_error_v, 0.05 * found.mean_error_v.max()),
        # Where there is no spread to speak of, the skewness says nothing.
        "skew": found.skew_error * np.where(wide & (variance > _LEAST_SHARE * variance.max()), 1.0, 30.0),
    }
    return mean_v, variance, skew, spread


def _chosen(
    pairs: Float[np.ndarray, "point 2"],
    target: Float[np.ndarray, " point"],
    weight: Float[np.ndarray, " point"],
    candidates: Sequence[Int[np.ndarray, "_ 2"]],
    folds: Sequence[Bool[np.ndarray, " point"]],
    counted: Float[np.ndarray, " point"] | None = None,
) -> tuple[Int[np.ndarray, "term 2"], float]:
    """The fewest terms whose left-out error is good enough, and that error, times `counted` where it is given."""
    factor = np.ones(target.size) if counted is None else counted
    factor = np.concatenate([factor[fold] for fold in folds])
    smallest = target.size - max(int(fold.sum()) for fold in folds)
    centered = target - float(np.average(target, weights=weight**2))
    tried: list[tuple[Int[np.ndarray, "term 2"], float]] = []
    for powers in candidates:
        if len(powers) < smallest:
            errors = left_out_errors(pairs, centered, weight / weight.max(), powers, folds) * factor
            tried.append((powers, float(np.sqrt(np.mean(errors**2)))))
    if not tried:
        raise InputError(f"{target.size} pairs of counts are too few for a model in both counts")
    least = min(error for _, error in tried)
    return next(each for each in tried if each[1] <= _GOOD_ENOUGH * least + 1e-12)


def _candidates(most: tuple[int, int], degree: int) -> list[Int[np.ndarray, "_ 2"]]:
    """Every total degree with every largest power of the other count, fewest terms first."""
    found = {
        powers.tobytes(): powers
        for total in range(degree + 1)
        for other in range(most[1] + 1)
        for powers in [terms(total, (most[0], other))]
    }
    return sorted(found.values(), key=len)


def _variance(
    pairs: Float[np.ndarray, "point 2"],
    variance: Float[np.ndarray, " point"],
    samples: Int[np.ndarray, " point"],
    powers: Int[np.ndarray, "term 2"],
    lattice: Float[np.ndarray, "place 2"],
) -> Float[np.ndarray, " term"]:
    """A variance that is nowhere negative; each sample variance weighs by the spread that the fit itself gives it.

    A sample variance of n reads is off by sqrt(2 / (n - 1)) of the true one, so the weights follow from the fit, which
    is repeated: weights from the sample variances themselves would favour those that are too small.
    """
    scale = float(variance.max())
    design, bound = features(pairs, powers), features(lattice, powers)
    least = np.full(len(bound), (LEAST_SIGMA_V**2) / scale)
    fitted = np.full(variance.size, 1.0)
    solved = np.zeros(len(powers))
    for _ in range(4):
        weight = np.sqrt((samples - 1) / 2 / len(samples)) / np.maximum(fitted, _LEAST_SHARE)
        solved = least_squares(design * weight[:, None], variance / scale * weight, bound, least)
        fitted = design @ solved
    return scale * solved


def _lattice(rows: int, fewest: int) -> Float[np.ndarray, "place 2"]:
    """Pairs of counts, spread over what was measured."""
    places: list[tuple[float, float]] = []
    for active in np.unique(np.linspace(fewest, rows, 1 if fewest == rows else _LINES).round()):
        size = rows + 1 if active == rows else _ALONG
        places += [(own, active - own) for own in np.unique(np.linspace(0, active, size).round())]
    return np.array(places)


def _slopes(
    powers: Int[np.ndarray, "term 2"], lattice: Float[np.ndarray, "place 2"], rows: int, fewest: int, lines: int
) -> Float[np.ndarray, "bound term"]:
    """What one count more adds, by term: one that pulls in the place of one that does not; and, where several numbers
    of active rows were measured, one more that pulls, and in a column of one line one less that does not."""
    own, other = lattice[:, 0], lattice[:, 1]
    here = features(scaled(lattice, rows), powers)
    steps = [((1, -1), other >= 1)]
    if fewest < rows:
        steps.append(((1, 0), own + other < rows))
        if lines == 1:
            steps.append(((0, -1), (own + other > fewest) & (other >= 1)))
    rises = [(features(scaled(lattice + step, rows), powers) - here)[allowed] for step, allowed in steps]
    return np.vstack(rises)
