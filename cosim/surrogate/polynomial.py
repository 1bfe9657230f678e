"""Polynomials of two variables: their terms, least squares with a choice of degree by cross-validation, and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linprog, nnls
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures

_RIDGE = 1e-9
"""Keeps a fit with nearly as many terms as points well posed; targets are of order 1 or scaled to it."""


@dataclass(frozen=True, slots=True)
class Polynomial:
    """sum of coefficient * x^i * y^j with (i, j) from `powers`."""

    powers: Int[np.ndarray, "term 2"]
    coefficient: Float[np.ndarray, " term"]

    def __call__(
        self, x: Float[np.ndarray, " *shape"], y: Float[np.ndarray, " *shape"]
    ) -> Float[np.ndarray, " *shape"]:
        """The value at each pair."""
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        pairs = np.stack([np.broadcast_to(each, shape).ravel() for each in (x, y)], axis=1)
        return (features(pairs, self.powers) @ self.coefficient).reshape(shape)


def terms(degree: int, most: tuple[int, int]) -> Int[np.ndarray, "term 2"]:
    """The powers of all terms of a total degree, with at most `most` of each variable.

    >>> terms(2, (2, 1)).tolist()
    [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1]]
    """
    powers = PolynomialFeatures(degree).fit(np.zeros((1, 2))).powers_
    return powers[(powers <= most).all(axis=1)].astype(np.int64)


def features(pairs: Float[np.ndarray, "point 2"], powers: Int[np.ndarray, "term 2"]) -> Float[np.ndarray, "point term"]:
    """Each term at each point."""
    x = pairs[:, :1] ** np.arange(powers[:, 0].max(initial=0) + 1)
    y = pairs[:, 1:] ** np.arange(powers[:, 1].max(initial=0) + 1)
    return x[:, powers[:, 0]] * y[:, powers[:, 1]]


def left_out_errors(
    pairs: Float[np.ndarray, "point 2"],
    target: Float[np.ndarray, " point"],
    weight: Float[np.ndarray, " point"],
    powers: Int[np.ndarray, "term 2"],
    folds: Sequence[Bool[np.ndarray, " point"]],
) -> Float[np.ndarray, " left_out"]:
    """Prediction less target at the points of each fold, from a fit to all other points."""
    design = features(pairs, powers)
    errors: list[np.ndarray] = []
    for fold in folds:
        kept = ~fold
        ridge = Ridge(_RIDGE, fit_intercept=False, solver="svd")
        ridge.fit(design[kept] * weight[kept, None], target[kept] * weight[kept])
        errors.append(design[fold] @ ridge.coef_ - target[fold])
    return np.concatenate(errors)


def least_squares(
    design: Float[np.ndarray, "point term"],
    target: Float[np.ndarray, " point"],
    bound: Float[np.ndarray, "bound term"],
    least: Float[np.ndarray, " bound"],
) -> Float[np.ndarray, " term"]:
    """The coefficients of least squared error for which `bound @ coefficients >= least`.

    Least distance programming by non-negative least squares (Lawson and Hanson, Solving Least Squares Problems, 1974,
    chapter 23); Ridge where no bound is active.
    """
    plain = Ridge(_RIDGE, fit_intercept=False, solver="svd").fit(design, target).coef_
    if (bound @ plain >= least).all():
        return plain
    size = design.shape[1]
    stacked = np.vstack([design, np.sqrt(_RIDGE) * np.eye(size)])
    q, r = np.linalg.qr(stacked)
    middle = q.T @ np.concatenate([target, np.zeros(size)])
    inverse = np.linalg.inv(r)
    rotated = bound @ inverse
    offset = least - rotated @ middle
    # Rows of one size each: what matters is where each bound lies.
    scale = np.maximum(np.linalg.norm(rotated, axis=1), 1e-300)
    system = np.vstack([(rotated / scale[:, None]).T, offset / scale])
    goal = np.zeros(size + 1)
    goal[-1] = 1.0
    multiplier, _ = nnls(system, goal, maxiter=50 * system.shape[1])
    residual = system @ multiplier - goal
    return inverse @ (middle - residual[:-1] / residual[-1])


def inner_points(points: Float[np.ndarray, "point axis"]) -> Bool[np.ndarray, " point"]:
    """Which points lie within the convex hull of the others."""
    every = np.arange(len(points))
    return np.array([within_hull(points[i], points[every != i]) for i in every], bool)


def within_hull(point: Float[np.ndarray, " axis"], points: Float[np.ndarray, "point axis"]) -> bool:
    """Whether a point is a convex combination of others, by linear programming; also where they lie in a plane."""
    if not len(points):
        return False
    scale = np.maximum(np.ptp(points, axis=0), np.maximum(np.abs(points).max(axis=0) * 1e-9, 1e-300))
    scaled = (points - point) / scale
    slack = np.vstack([np.eye(scaled.shape[1]), -np.eye(scaled.shape[1])])
    # Slack on every axis, whose sum is what is left: 0 within the hull.
    equal = np.hstack([scaled.T, slack.T])
    cost = np.concatenate([np.zeros(len(points)), np.ones(len(slack))])
    convex = np.concatenate([np.ones(len(points)), np.zeros(len(slack))])
    found = linprog(cost, A_eq=np.vstack([equal, convex]), b_eq=np.append(np.zeros(len(point)), 1.0))
    return bool(found.success and found.fun < 1e-7)
