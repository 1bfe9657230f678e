"""Curves of a moment against the count: smooth, and monotone where physics says so."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import BSpline
from scipy.optimize import lsq_linear
from scipy.special import digamma, polygamma

INTERVALS = 5
"""Pieces of a spline."""


def falling_curve(
    count: Float[np.ndarray, " point"],
    value: Float[np.ndarray, " point"],
    error: Float[np.ndarray, " point"],
    rows: int,
    intervals: int = INTERVALS,
) -> Float[np.ndarray, " count"]:
    """A cubic spline through `value` +- `error` that nowhere rises, at each count from 0 to `rows`.

    Least squares over B-splines whose coefficients fall: a sufficient condition for a falling spline
    (de Boor, A Practical Guide to Splines, 1978).
    """
    design = _cubic_splines(count, rows, intervals)
    size = design.shape[1]
    # coefficients = start - cumulated drops, drops >= 0
    falling = np.hstack([np.ones((size, 1)), -np.tril(np.ones((size, size)), -1)[:, : size - 1]])
    matrix = (design @ falling) / error[:, None]
    lower = np.concatenate(([-np.inf], np.zeros(size - 1)))
    solved = lsq_linear(matrix, value / error, bounds=(lower, np.inf), method="bvls").x
    return _cubic_splines(np.arange(rows + 1.0), rows, intervals) @ (falling @ solved)


def variance_curve(
    count: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    samples: Int[np.ndarray, " point"],
    rows: int,
    degree: int = 3,
) -> Float[np.ndarray, " count"]:
    """The variance at each count from 0 to `rows`: at n >= 1 it is n independent cells' worth, times a smooth factor.

    log(variance / n) is a polynomial in n, fitted to the sample variances with the bias and variance of the log of a
    chi-square (digamma and trigamma). At n = 0 no cell pulls, and the measured leakage spread itself is kept.
    """
    some = count > 0
    n, freedom = count[some], samples[some] - 1
    log_ratio = np.log(variance[some] / n) - (digamma(freedom / 2) - np.log(freedom / 2))
    weight = 1 / np.sqrt(polygamma(1, freedom / 2))
    basis = np.polynomial.legendre.legvander(2 * n / rows - 1, degree)
    solved = np.linalg.lstsq(basis * weight[:, None], log_ratio * weight, rcond=None)[0]
    grid = np.arange(1.0, rows + 1)
    fitted = grid * np.exp(np.polynomial.legendre.legvander(2 * grid / rows - 1, degree) @ solved)
    none = variance[~some].mean() if (~some).any() else 0.0
    return np.concatenate(([none], fitted))


def skew_curve(
    count: Float[np.ndarray, " point"],
    skew: Float[np.ndarray, " point"],
    samples: Int[np.ndarray, " point"],
    rows: int,
) -> Float[np.ndarray, " count"]:
    """The skewness at each count: a / sqrt(n), as for a sum of n like cells, plus a straight line; 0 at n = 0."""
    some = count > 0
    n, weight = count[some], np.sqrt(samples[some] / 6)
    basis = _skew_basis(n, rows)
    solved = np.linalg.lstsq(basis * weight[:, None], skew[some] * weight, rcond=None)[0]
    return np.concatenate(([0.0], _skew_basis(np.arange(1.0, rows + 1), rows) @ solved))


def _skew_basis(n: Float[np.ndarray, " point"], rows: int) -> Float[np.ndarray, "point term"]:
    return np.stack([1 / np.sqrt(n), np.ones_like(n), n / rows], axis=1)


def _cubic_splines(count: Float[np.ndarray, " point"], rows: int, intervals: int) -> Float[np.ndarray, "point spline"]:
    inner = np.linspace(0, rows, intervals + 1)
    knots = np.concatenate((np.full(3, inner[0]), inner, np.full(3, inner[-1])))
    return BSpline.design_matrix(np.asarray(count, float), knots, 3).toarray()
