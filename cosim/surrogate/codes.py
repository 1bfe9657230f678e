"""From references to codes: what a flash multi-level sense amplifier answers, and how probable each answer is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import pearson3

from cosim.surrogate.model import Sensing, Surrogate

_Z = np.linspace(-8.0, 8.0, 641)
"""Standardized voltages for the integral; with offsets of 0.1 mV and more, finer ones move no probability by 1e-4."""


def nominal_codes(
    surrogate: Surrogate, sensing: Sensing, n_active: int, reference_v: Float[np.ndarray, " reference"]
) -> Int[np.ndarray, " count"]:
    """The code at each `n_minus` from 0 to `n_active` with the mean voltage and perfect comparators.

    A code is the number of comparators whose input is above their reference, so it falls with `n_minus`.
    """
    mean_v = _moments(surrogate, sensing, n_active).mean_v
    return (mean_v[:, None] > reference_v).sum(axis=1)


def code_probabilities(
    surrogate: Surrogate, sensing: Sensing, n_active: int, reference_v: Float[np.ndarray, " reference"]
) -> Float[np.ndarray, "count code"]:
    """P(code | n_minus) for a fresh column and fresh comparators at every read, `n_minus` from 0 to `n_active`.

    Every comparator sees the same voltage and has an offset of its own, so given the voltage the number that fire
    is Poisson-binomial; the voltage is integrated out. Voltage and offsets are of Pearson type III, with the three
    moments of the surrogate.

    Raises:
        InputError: A reference beyond the measured levels, more active rows than the column has, or too few of them
            for differential sensing.
    """
    moments = _moments(surrogate, sensing, n_active)
    offset = surrogate.comparator(sensing).at(reference_v)
    volts = moments.mean_v[:, None] + moments.sigma_v[:, None] * _Z
    fires = pearson3.cdf((volts[..., None] - reference_v - offset.mean_v) / offset.sigma_v, offset.skew)
    weights = _weights(moments.skew)
    return np.einsum("kz,kzc->kc", weights, poisson_binomial(fires))


def poisson_binomial(probability: Float[np.ndarray, "*batch trial"]) -> Float[np.ndarray, "*batch count"]:
    """The distribution of the number of successes of independent trials.

    >>> poisson_binomial(np.array([0.5, 0.5])).tolist()
    [0.25, 0.5, 0.25]
    """
    out = np.zeros((*probability.shape[:-1], probability.shape[-1] + 1))
    out[..., 0] = 1.0
    for trial in range(probability.shape[-1]):
        p = probability[..., trial, None]
        out[..., 1:] = out[..., 1:] * (1 - p) + out[..., :-1] * p
        out[..., :1] *= 1 - p
    return out


def _moments(surrogate: Surrogate, sensing: Sensing, n_active: int):
    surrogate.check_active(sensing, n_active)
    n_minus = np.arange(n_active + 1, dtype=float)
    return surrogate.moments(sensing, n_minus, n_active - n_minus)


def _weights(skew: Float[np.ndarray, " count"]) -> Float[np.ndarray, "count z"]:
    """Probability of each cell of the grid of standardized voltages."""
    edges = np.concatenate(([-np.inf], (_Z[1:] + _Z[:-1]) / 2, [np.inf]))
    return np.diff(pearson3.cdf(edges, skew[:, None]), axis=1)
