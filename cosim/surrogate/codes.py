"""From references to codes: what a multi-level sense amplifier answers, and how probable each answer is."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, pearson3

from cosim.errors import InputError
from cosim.surrogate.model import Moments, Sensing, Surrogate

Mlsa = Literal["flash", "sequential"]
"""Multi-level sense amplifiers: one comparator a level, or one comparator whose reference is stepped."""

MLSAS: tuple[Mlsa, ...] = get_args(Mlsa)

_Z = np.linspace(-8.0, 8.0, 641)
"""Standardized voltages for the integral; with offsets of 0.1 mV and more, finer ones move no probability by 1e-4."""

_AT_ONCE = 1024


def nominal_codes(
    surrogate: Surrogate, sensing: Sensing, n_active: int, reference_v: Float[np.ndarray, " reference"]
) -> Int[np.ndarray, " count"]:
    """The code at each `n_minus` from 0 to `n_active` with the mean voltage and perfect comparators.

    A code is the number of comparators whose input is on the side of a larger partial sum: above their reference, or
    below it where the surrogate's `direction` is -1. So it falls with `n_minus`.
    """
    mean_v = _moments(surrogate, sensing, n_active).mean_v
    return (surrogate.direction * (mean_v[:, None] - reference_v) > 0).sum(axis=1)


def code_probabilities(
    surrogate: Surrogate,
    sensing: Sensing,
    n_active: int,
    reference_v: Float[np.ndarray, " reference"],
    mlsa: Mlsa = "flash",
) -> Float[np.ndarray, "count code"]:
    """P(code | n_minus) for a fresh column and fresh comparators at every read, `n_minus` from 0 to `n_active`.

    All comparisons of a read see the same voltage, which is integrated out. Voltage and offsets are of Pearson type
    III, with the three moments of the surrogate; where offsets were measured at several common modes, they are those
    of the mean read's own.

    `flash`: every level has a comparator and thus an offset of its own, so given the voltage the number that fire is
    Poisson-binomial. `sequential`: one comparator is stepped through all levels, and its offset is one draw, at the
    same quantile of each level's distribution. The word line is off while it steps; what the line droops meanwhile
    (about 0.07 mV/ns at TT, 2.4 at FF and 125 C in the shipped column) is not part of the model.

    Raises:
        InputError: A reference or a common mode beyond the measured ones, more active rows than the column has, too
            few of them for differential sensing, or no such `mlsa`.
    """
    check_mlsa(mlsa)
    moments = _moments(surrogate, sensing, n_active)
    offset = surrogate.offset(sensing, n_active, reference_v)
    volts = moments.mean_v[:, None] + moments.sigma_v[:, None] * _Z
    # Axes are count, voltage, reference; an offset has no voltage, and a count only where it depends on it.
    mean_v, sigma_v, skew = (each[:, None, :] if each.ndim == 2 else each for each in _fields(offset))
    below = pearson3.cdf((volts[..., None] - reference_v - mean_v) / sigma_v, skew)
    fires = below if surrogate.direction > 0 else 1 - below
    codes = poisson_binomial(fires) if mlsa == "flash" else same_draw(fires)
    return np.einsum("kz,kzc->kc", _weights(moments.skew), codes)


def converter_probabilities(
    surrogate: Surrogate, n_active: int, threshold_v: Float[np.ndarray, " reference"], noise_v: float
) -> Float[np.ndarray, "count code"]:
    """P(code | n_minus) of a converter whose thresholds stand still and whose input is moved by Gaussian `noise_v`.

    For a column of one line; a fresh column, offset and noise at every read, of which the last two are one sum.

    Raises:
        InputError: A number of active rows that was not measured.
    """
    moments = _moments(surrogate, "single_ended", n_active)
    volts = moments.mean_v[:, None] + moments.sigma_v[:, None] * _Z
    away_v = surrogate.direction * (volts[..., None] - threshold_v)
    fires = norm.cdf(away_v / noise_v) if noise_v > 0 else (away_v > 0).astype(float)
    return np.einsum("kz,kzc->kc", _weights(moments.skew), same_draw(fires))


def check_mlsa(mlsa: str) -> None:
    """Refuse a sense amplifier that is none.

    Raises:
        InputError: Naming those that there are.
    """
    if mlsa not in MLSAS:
        raise InputError(f"mlsa must be one of {', '.join(MLSAS)}, got {mlsa!r}")


def same_draw(probability: Float[np.ndarray, "*batch trial"]) -> Float[np.ndarray, "*batch count"]:
    """The distribution of the number of successes where one uniform draw decides all trials.

    Each succeeds if the draw is below its probability, so n or more do with the n-th largest probability.

    >>> same_draw(np.array([0.25, 0.75])).tolist()
    [0.25, 0.5, 0.25]
    """
    falling = -np.sort(-probability, axis=-1)
    ends = np.ones((*probability.shape[:-1], 1))
    return -np.diff(np.concatenate([ends, falling, 0 * ends], axis=-1), axis=-1)


def poisson_binomial(probability: Float[np.ndarray, "*batch trial"]) -> Float[np.ndarray, "*batch count"]:
    """The distribution of the number of successes of independent trials.

    >>> poisson_binomial(np.array([0.5, 0.5])).tolist()
    [0.25, 0.5, 0.25]
    """
    *batch, trials = probability.shape
    flat = probability.reshape(math.prod(batch), trials)
    out = np.empty((len(flat), trials + 1))
    for start in range(0, len(flat), _AT_ONCE):  # Counts first and few at once, so that they stay in the cache.
        p = np.ascontiguousarray(flat[start : start + _AT_ONCE].T)
        part = np.zeros((trials + 1, p.shape[1]))
        part[0] = 1.0
        for trial in range(trials):
            rises = part[: trial + 1] * p[trial]
            part[: trial + 1] *= 1 - p[trial]
            part[1 : trial + 2] += rises
        out[start : start + _AT_ONCE] = part.T
    return out.reshape(*batch, trials + 1)


def _moments(surrogate: Surrogate, sensing: Sensing, n_active: int) -> Moments:
    surrogate.check_active(sensing, n_active)
    n_minus = np.arange(n_active + 1, dtype=float)
    return surrogate.moments(sensing, n_minus, n_active - n_minus)


def _fields(moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return moments.mean_v, moments.sigma_v, moments.skew


def _weights(skew: Float[np.ndarray, " count"]) -> Float[np.ndarray, "count z"]:
    """Probability of each cell of the grid of standardized voltages."""
    edges = np.concatenate(([-np.inf], (_Z[1:] + _Z[:-1]) / 2, [np.inf]))
    return np.diff(pearson3.cdf(edges, skew[:, None]), axis=1)
