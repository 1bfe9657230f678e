"""The surrogate against samples that it has not seen: errors in millivolts and in counts, and goodness of fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import kstest, pearson3

from cosim.surrogate.model import ComparatorModel, Moments, Sensing, Surrogate
from cosim.surrogate.two_count import LEAST_SIGMA_V

if TYPE_CHECKING:
    from cosim.surrogate.samples import ColumnSamples, ComparatorSamples


def validate(
    surrogate: Surrogate,
    reads: ColumnSamples,
    held_out: Bool[np.ndarray, " read"],
    fitted: Bool[np.ndarray, " read"] | None = None,
) -> dict[str, float]:
    """Figures by name, for BL, BLB (the mirror image) and their difference, and for the columns with rows off.

    `*_mean_rms_mv` and `*_sigma_rms_mv` are the rms over the counts of held-out mean and sigma less the model's, and
    `*_expected_mv` what sampling alone would give; `_counts` divides by the slope. `*_ks_p` is the p-value of
    Kolmogorov and Smirnov's test of the held-out reads' probability transforms against uniform. `rows_off_unchecked`
    is the number of reads with fewer rows on than the model covers.

    Args:
        held_out: Reads that took no part in the fit.
        fitted: Reads of the kind that is fitted, those with all rows on by default; the others check the model alone.
    """
    active = reads.n_minus + reads.n_plus
    of_the_fit = active == surrogate.rows if fitted is None else fitted
    figures: dict[str, float] = {}
    covered = np.ones(active.size, bool)
    if surrogate.two_count is not None:
        covered = active >= surrogate.two_count.fewest_active
        figures["rows_off_unchecked"] = float((~of_the_fit & ~covered).sum())
    for name, mask in (("", of_the_fit & held_out), ("rows_off_", ~of_the_fit & covered)):
        if not mask.any():
            continue
        for view, sensing, minus, plus, volts in _views(surrogate, reads.chosen(mask)):
            figures |= {
                f"{name}{view}_{key}": value for key, value in _figures(surrogate, sensing, minus, plus, volts).items()
            }
    if surrogate.lines == 2:
        figures["line_correlation"] = _correlation(surrogate, reads.chosen(of_the_fit))
    return figures


def validate_comparator(model: ComparatorModel, held_out: ComparatorSamples) -> dict[str, float]:
    """Figures by name of offsets that took no part in the fit; named as those of `validate`, over the levels.

    Levels with a single offset are left out of the errors; without any other there are no figures.
    """
    fields = [held_out.level_v, held_out.common_mode_v] if model.gridded else [held_out.level_v]
    where = np.stack(fields, axis=1)
    levels, size = np.unique(where, axis=0, return_counts=True)
    levels, size = levels[size > 1], size[size > 1]
    if not size.size:
        return {}
    groups = [held_out.offset_v[(where == level).all(axis=1)] for level in levels]
    each = [model.at(level[:1], level[1:] if model.gridded else None) for level in levels]
    moments = Moments(*(np.array([getattr(m, n).item() for m in each]) for n in ("mean_v", "sigma_v", "skew")))
    transformed = np.concatenate([_transform(group, moments, i) for i, group in enumerate(groups)])
    test = kstest(transformed, "uniform")
    return {
        "reads": float(size.sum()),
        "mean_rms_mv": _rms(1e3 * (np.array([group.mean() for group in groups]) - moments.mean_v)),
        "mean_expected_mv": _rms(1e3 * moments.sigma_v / np.sqrt(size)),
        "sigma_rms_mv": _rms(1e3 * (np.array([group.std(ddof=1) for group in groups]) - moments.sigma_v)),
        "sigma_expected_mv": _rms(1e3 * moments.sigma_v / np.sqrt(2 * (size - 1))),
        "ks": float(test.statistic),
        "ks_p": float(test.pvalue),
    }


_View = tuple[str, Sensing, np.ndarray, np.ndarray, np.ndarray]


def _views(surrogate: Surrogate, reads: ColumnSamples) -> tuple[_View, ...]:
    """Name, sensing, both counts and voltage of each signal of the column."""
    bl: _View = ("bl", "single_ended", reads.n_minus, reads.n_plus, reads.bl_v)
    if surrogate.lines == 1:
        return (bl,)
    blb: _View = ("blb", "single_ended", reads.n_plus, reads.n_minus, reads.blb_v)
    return (bl, blb, ("difference", "differential", reads.n_minus, reads.n_plus, reads.bl_v - reads.blb_v))


def _figures(
    surrogate: Surrogate,
    sensing: Sensing,
    n_minus: Float[np.ndarray, " read"],
    n_plus: Float[np.ndarray, " read"],
    volts: Float[np.ndarray, " read"],
) -> dict[str, float]:
    # Without a cell that pulls there is no spread; on the one line of a column every row pulls, up or down.
    pulled = n_minus + (n_plus if sensing == "differential" or surrogate.lines == 1 else 0) > 0
    n_minus, n_plus, volts = n_minus[pulled], n_plus[pulled], volts[pulled]
    pairs, size = np.unique(np.stack([n_minus, n_plus], axis=1), axis=0, return_counts=True)
    pairs, size = pairs[size > 1], size[size > 1]  # a single read has no sigma
    if not size.size:
        return {}
    groups = [volts[(n_minus == minus) & (n_plus == plus)] for minus, plus in pairs]
    if surrogate.lines == 1:  # an off row may rest where a pulled one goes, and then nothing moves
        moving = np.array([group.std() > LEAST_SIGMA_V for group in groups])
        if not moving.any():
            return {}
        pairs, size = pairs[moving], size[moving]
        groups = [group for group, moves in zip(groups, moving, strict=True) if moves]
    model = surrogate.moments(sensing, pairs[:, 0], pairs[:, 1])
    mean_mv = 1e3 * (np.array([group.mean() for group in groups]) - model.mean_v)
    sigma_mv = 1e3 * (np.array([group.std(ddof=1) for group in groups]) - model.sigma_v)
    slope_mv = 1e3 * _slope_v(surrogate, sensing, pairs)
    expected_mv = 1e3 * model.sigma_v / np.sqrt(size)
    transformed = np.concatenate([_transform(groups[i], model, i) for i in range(len(groups))])
    return {
        "reads": float(size.sum()),
        "mean_rms_mv": _rms(mean_mv),
        "mean_expected_mv": _rms(expected_mv),
        "mean_rms_counts": _rms(mean_mv / slope_mv),
        "sigma_rms_mv": _rms(sigma_mv),
        "sigma_expected_mv": _rms(1e3 * model.sigma_v / np.sqrt(2 * (size - 1))),
        "sigma_rms_counts": _rms(sigma_mv / slope_mv),
        "ks": float(kstest(transformed, "uniform").statistic),
        "ks_p": float(kstest(transformed, "uniform").pvalue),
    }


def _transform(volts: Float[np.ndarray, " read"], model: Moments, index: int) -> Float[np.ndarray, " read"]:
    standard = (volts - model.mean_v[index]) / model.sigma_v[index]
    return pearson3.cdf(standard, model.skew[index])


def _slope_v(
    surrogate: Surrogate, sensing: Sensing, pairs: Float[np.ndarray, "point 2"]
) -> Float[np.ndarray, " point"]:
    """Volts a count: one more row that pulls BL in the place of one that pulls BLB."""
    minus, plus = pairs.T
    down, up = np.minimum(minus, 0.5), np.minimum(plus, 0.5)
    ends = [surrogate.moments(sensing, minus + step, plus - step).mean_v for step in (up, -down)]
    return np.maximum(np.abs(ends[0] - ends[1]) / np.maximum(up + down, 0.5), _LEAST_SLOPE_V)


_LEAST_SLOPE_V = 1e-6
"""So that a mean that stands still gives a great number of counts and not infinity."""


def _correlation(surrogate: Surrogate, reads: ColumnSamples) -> float:
    """Correlation of BL's and BLB's deviations, pooled; the model takes it as zero."""
    both = (reads.n_minus > 0) & (reads.n_plus > 0)
    minus, plus = reads.n_minus[both], reads.n_plus[both]
    line, bar = (surrogate.moments("single_ended", *pair) for pair in ((minus, plus), (plus, minus)))
    first = (reads.bl_v[both] - line.mean_v) / line.sigma_v
    second = (reads.blb_v[both] - bar.mean_v) / bar.sigma_v
    return float(np.corrcoef(first, second)[0, 1])


def _rms(values: Float[np.ndarray, " point"]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
