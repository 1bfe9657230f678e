"""The surrogate against samples that it has not seen: errors in millivolts and in counts, and goodness of fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import kstest, pearson3

from cosim.surrogate.model import ComparatorModel, Moments, Sensing, Surrogate

if TYPE_CHECKING:
    from cosim.surrogate.fit import ColumnSamples, ComparatorSamples


def validate(surrogate: Surrogate, reads: ColumnSamples, held_out: Bool[np.ndarray, " read"]) -> dict[str, float]:
    """Figures by name, for BL, BLB (the mirror image) and their difference, and for the columns with rows off.

    `*_mean_rms_mv` and `*_sigma_rms_mv` are the rms over the counts of held-out mean and sigma less the model's, and
    `*_expected_mv` what sampling alone would give; `_counts` divides by the slope. `*_ks_p` is the p-value of
    Kolmogorov and Smirnov's test of the held-out reads' probability transforms against uniform.
    """
    all_on = reads.n_minus + reads.n_plus == surrogate.rows
    figures: dict[str, float] = {}
    for name, mask in (("", all_on & held_out), ("rows_off_", ~all_on)):
        if not mask.any():
            continue
        chosen = reads.chosen(mask)
        views: tuple[tuple[str, Sensing, np.ndarray, np.ndarray, np.ndarray], ...] = (
            ("bl", "single_ended", chosen.n_minus, chosen.n_plus, chosen.bl_v),
            ("blb", "single_ended", chosen.n_plus, chosen.n_minus, chosen.blb_v),
            ("difference", "differential", chosen.n_minus, chosen.n_plus, chosen.bl_v - chosen.blb_v),
        )
        for view, sensing, minus, plus, volts in views:
            figures |= {
                f"{name}{view}_{key}": value for key, value in _figures(surrogate, sensing, minus, plus, volts).items()
            }
    figures["line_correlation"] = _correlation(surrogate, reads.chosen(all_on))
    return figures


def validate_comparator(model: ComparatorModel, held_out: ComparatorSamples) -> dict[str, float]:
    """Figures by name of offsets that took no part in the fit; named as those of `validate`, over the levels.

    Levels with a single offset are left out of the errors; without any other there are no figures.
    """
    levels, size = np.unique(held_out.level_v, return_counts=True)
    levels, size = levels[size > 1], size[size > 1]
    if not size.size:
        return {}
    groups = [held_out.offset_v[held_out.level_v == level] for level in levels]
    moments = model.at(levels)
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


def _figures(
    surrogate: Surrogate,
    sensing: Sensing,
    n_minus: Float[np.ndarray, " read"],
    n_plus: Float[np.ndarray, " read"],
    volts: Float[np.ndarray, " read"],
) -> dict[str, float]:
    pulled = n_minus + (n_plus if sensing == "differential" else 0) > 0  # without a pulling cell there is no spread
    n_minus, n_plus, volts = n_minus[pulled], n_plus[pulled], volts[pulled]
    pairs, size = np.unique(np.stack([n_minus, n_plus], axis=1), axis=0, return_counts=True)
    pairs, size = pairs[size > 1], size[size > 1]  # a single read has no sigma
    if not size.size:
        return {}
    model = surrogate.moments(sensing, pairs[:, 0], pairs[:, 1])
    groups = [volts[(n_minus == minus) & (n_plus == plus)] for minus, plus in pairs]
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
    """Volts a count: one more row that pulls BL, and for differential sensing one less that pulls BLB."""
    line, rows = surrogate.line, surrogate.rows
    slope = np.maximum(np.abs(np.gradient(line.mean_v)), _LEAST_SLOPE_V)
    at = np.interp(pairs[:, 0], np.arange(rows + 1), slope)
    return at + (np.interp(pairs[:, 1], np.arange(rows + 1), slope) if sensing == "differential" else 0.0)


_LEAST_SLOPE_V = 1e-6
"""So that a mean that stands still gives a great number of counts and not infinity."""


def _correlation(surrogate: Surrogate, reads: ColumnSamples) -> float:
    """Correlation of BL's and BLB's deviations, pooled; the model takes it as zero."""
    both = (reads.n_minus > 0) & (reads.n_plus > 0)
    line, bar = surrogate.line.at(reads.n_minus[both]), surrogate.line.at(reads.n_plus[both])
    first = (reads.bl_v[both] - line.mean_v) / line.sigma_v
    second = (reads.blb_v[both] - bar.mean_v) / bar.sigma_v
    return float(np.corrcoef(first, second)[0, 1])


def _rms(values: Float[np.ndarray, " point"]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
