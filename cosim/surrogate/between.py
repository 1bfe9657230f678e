"""Curves between operating points: a trend of low degree, and a Gaussian process for what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures

Weights = Float[np.ndarray, " point"]

_DEGREES = (1, 2, 3, 0)
_LENGTHS = (1.0, 0.5, 2.0)
"""Of the process's kernel, where every axis goes from -1 to 1. Of equally good ones, the first is taken."""
_ALPHA = 1e-9
_GOOD_ENOUGH = 1.05
"""An earlier smoothness is taken if its left-out error is within this factor of the least."""


@dataclass(frozen=True, slots=True)
class Smoothness:
    """The degree of the trend and the length over which what it leaves changes."""

    degree: int
    length: float


def weights(points: Float[np.ndarray, "point axis"], at: Float[np.ndarray, " axis"], smoothness: Smoothness) -> Weights:
    """What each point's values count at a place between them; a point's own count alone at the point itself.

    Both trend and process are linear in the values, so that values of 1 at one point and 0 at the others give all.
    """
    values = np.eye(len(points))
    terms = PolynomialFeatures(smoothness.degree)
    design = terms.fit_transform(points)
    trend = Ridge(_ALPHA, fit_intercept=False, solver="svd").fit(design, values)
    coefficient = np.asarray(trend.coef_).reshape(len(points), -1).T
    kernel = Matern(length_scale=smoothness.length, length_scale_bounds="fixed", nu=2.5)
    fixed: dict[str, Any] = {"optimizer": None}  # the stubs know of a name alone
    process = GaussianProcessRegressor(kernel, alpha=_ALPHA, **fixed).fit(points, values - design @ coefficient)
    rest = np.asarray(process.predict(at[None, :])).reshape(-1)
    return (terms.transform(at[None, :]) @ coefficient)[0] + rest


class Chooser:
    """Finds how smooth a quantity is over some points, by predicting some of them from all others."""

    def __init__(self, points: Float[np.ndarray, "point axis"], left_out: Bool[np.ndarray, " point"]) -> None:
        every = np.arange(len(points))
        self._points, self._left_out = points, np.flatnonzero(left_out)
        self._weights: dict[Smoothness, np.ndarray] = {}
        for degree in _DEGREES:
            if _terms(degree, points) > max(1, len(points) - 1):
                continue
            for length in _LENGTHS:
                tried, table = Smoothness(degree, length), np.zeros((self._left_out.size, len(points)))
                for row, i in enumerate(self._left_out):
                    table[row, every != i] = weights(points[every != i], points[i], tried)
                self._weights[tried] = table

    def best(self, values: Float[np.ndarray, "point value"]) -> Smoothness:
        """The smoothness of least left-out error; with too few points to tell, a straight line through them."""
        if _terms(1, self._points) >= len(self._points):
            return Smoothness(int(_terms(1, self._points) == len(self._points)), _LENGTHS[0])
        errors = {
            tried: float(np.sqrt(np.mean(np.square(table @ values - values[self._left_out]))))
            for tried, table in self._weights.items()
        }
        # Points in the middle of others cannot tell a constant from a slope: then the slope, which comes first.
        enough = _GOOD_ENOUGH * min(errors.values()) + 1e-6 * float(np.ptp(values, axis=0).max(initial=0.0))
        return next(tried for tried, error in errors.items() if error <= enough)


def unit_axes(points: Float[np.ndarray, "point axis"]) -> Callable[[np.ndarray], np.ndarray]:
    """What brings every axis to -1 to 1 over the points."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = np.where(high > low, (high - low) / 2, 1.0)
    return lambda each: (each - (low + high) / 2) / half


def _terms(degree: int, points: Float[np.ndarray, "point axis"]) -> int:
    return int(PolynomialFeatures(degree).fit(points[:1]).n_output_features_)
