"""Mean, variance and skewness of samples with control variates, and the standard error of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped

SAMPLES_A_CONTROL = 8
"""Fewest samples for each control that is used: each coefficient is estimated and costs a degree of freedom."""

FEWEST_SPREAD = 8
"""Batches from which on the spread of their means tells the mean's error; with fewer, that of independent samples."""

_SIGNIFICANT = 3.0
"""Correlation of a control with what is left to explain, in standard errors of none."""

_NOTHING_V = 1e-9
"""A standard deviation, in volts, below which there is nothing to explain but rounding."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Estimated moments of a population.

    Args:
        freedom: Degrees of freedom of a chi-square that scatters as the variance does; samples - 1 without controls.
        explained: Share of the variance that the controls explain.
    """

    mean: float
    variance: float
    skew: float
    mean_error: float
    freedom: float
    skew_error: float
    samples: int
    explained: float


def moments(
    values: Float[np.ndarray, " sample"],
    controls: Float[np.ndarray, "sample control"] | None = None,
    batch: Shaped[np.ndarray, " sample"] | None = None,
) -> Moments:
    """Mean, variance and skewness by a regression on the controls, whose own moments are known.

    With y = mean + L + r, L the controls times their coefficients and r the rest:

    - mean: that of y - L (Lavenberg and Welch, Management Science 27(3), 1981);
    - variance: |coefficients|^2, which is L's, plus that of r. r is uncorrelated with L in the sample;
    - third central moment: E[3 L^2 r + 3 L r^2 + r^3], as E[L^3] = 0.

    So only r is left to chance. Controls are taken one by one as long as they explain more than chance would.

    The mean's error is the spread of the batches' means of y - L: batches are independent, their samples are not.
    With fewer than 8 batches it is that of independent samples: point sets are at least about as good (Owen, Annals
    of Statistics 25(4), 1997). So are the errors of variance and skewness, to which point sets do little. Both are
    the larger of what the samples tell and of what would hold for normal L and r: few samples do not show their
    tails. An error of few degrees of freedom is widened to the standard deviation of Student's t.

    Args:
        values: At least 4.
        controls: Of mean 0 and variance 1, uncorrelated; None for none.
        batch: Which samples belong together; None where each is independent.
    """
    return _Regression(values, _chosen(values, controls), batch).moments()


@dataclass(frozen=True)  # No slots: for cached properties.
class _Regression:
    """values = mean + linear + rest, by least squares."""

    values: Float[np.ndarray, " sample"]
    controls: Float[np.ndarray, "sample control"]
    batch: Shaped[np.ndarray, " sample"] | None

    @cached_property
    def solved(self) -> Float[np.ndarray, " term"]:
        design = np.column_stack([np.ones(self.values.size), self.controls])
        return np.linalg.lstsq(design, self.values, rcond=None)[0]

    @cached_property
    def linear(self) -> Float[np.ndarray, " sample"]:
        return self.controls @ self.solved[1:]

    @cached_property
    def rest(self) -> Float[np.ndarray, " sample"]:
        return self.values - self.solved[0] - self.linear

    def moments(self) -> Moments:
        count, used = self.values.size, self.controls.shape[1]
        mean_error = self._mean_error()
        # Of independent samples this is the sum of squares over count - 1 - used.
        rest = float(self.rest @ self.rest) / (count - used) + mean_error**2 * _t_narrowing(self._independent)
        squares = float(self.solved[1:] @ self.solved[1:])
        noise = used * rest / (count - used - 2)  # what the coefficients' own errors add to their squares
        linear = max(squares - noise, 0.0)
        variance = linear + rest
        third = self._third(rest)
        skew = third / variance**1.5 if variance > _NOTHING_V**2 else 0.0
        freedom, skew_error = self._other_errors(linear, rest, variance, skew)
        explained = linear / variance if variance else 0.0
        return Moments(float(self.solved[0]), variance, skew, mean_error, freedom, skew_error, count, explained)

    @property
    def _independent(self) -> int:
        """Independent terms behind the mean's error."""
        batches = np.unique(self.batch).size if self.batch is not None else 0
        spread = FEWEST_SPREAD <= batches < self.values.size
        return batches if spread else self.values.size - self.controls.shape[1]

    def _mean_error(self) -> float:
        count, independent = self.values.size, self._independent
        if self.batch is None or independent == count - self.controls.shape[1]:
            square = float(self.rest @ self.rest) / count / (independent - 1)
        else:
            _, of = np.unique(self.batch, return_inverse=True)
            sums = np.bincount(of, self.rest)
            square = float(sums @ sums) / count**2 * independent / (independent - 1)
        return float(np.sqrt(square / _t_narrowing(independent)))

    def _third(self, rest_variance: float) -> float:
        """The third central moment; the factor takes out the bias of a cube around the sample's own mean."""
        count = self.values.size
        cube = float(np.mean(self.rest**3)) * count**2 / ((count - 1) * (count - 2))
        return 3 * float(np.mean(self.linear * (self.linear * self.rest + self.rest**2 - rest_variance))) + cube

    def _other_errors(self, linear: float, rest: float, variance: float, skew: float) -> tuple[float, float]:
        """Degrees of freedom of the variance, and the skewness' standard error."""
        left = self.values.size - 1 - self.controls.shape[1]
        if variance <= _NOTHING_V**2:
            return float(left), 0.0
        x, r = self.linear, self.rest
        second = 2 * x * r + r**2
        third = 3 * (x**2 - linear) * r + 3 * x * (r**2 - rest) + r**3 - 3 * rest * r
        skewed = third / variance**1.5 - 1.5 * skew * second / variance
        # For normal and independent x and r.
        second_square = max(second.var(), 4 * linear * rest + 2 * rest**2) / left
        skew_square = (18 * linear * rest * variance + 6 * rest**3) / variance**3
        return 2 * variance**2 / second_square, float(np.sqrt(max(skewed.var(), skew_square) / left))


def _t_narrowing(independent: int) -> float:
    """The inverse variance of Student's t: what widens the error of few terms."""
    return (independent - 3) / (independent - 1)


def _chosen(
    values: Float[np.ndarray, " sample"], controls: Float[np.ndarray, "sample control"] | None
) -> Float[np.ndarray, "sample used"]:
    """The controls that explain the values, one after the other, by their correlation with what is left."""
    if controls is None:
        return np.empty((values.size, 0))
    most = values.size // SAMPLES_A_CONTROL
    size = np.sqrt(np.sum((controls - controls.mean(axis=0)) ** 2, axis=0))
    left, taken = values - values.mean(), np.empty(0, int)
    while taken.size < most:
        total = np.sqrt(left @ left)
        if total <= _NOTHING_V * np.sqrt(values.size):
            break
        correlation = np.abs(left @ controls) / np.where(size > 0, size * total, np.inf)
        correlation[taken] = 0
        best = int(np.argmax(correlation)) if correlation.size else -1
        if best < 0 or correlation[best] <= _SIGNIFICANT / np.sqrt(values.size):
            break
        taken = np.append(taken, best)
        left = _rest_of(values, controls[:, taken])
    return controls[:, taken]


def _rest_of(
    values: Float[np.ndarray, " sample"], controls: Float[np.ndarray, "sample control"]
) -> Float[np.ndarray, " sample"]:
    design = np.column_stack([np.ones(values.size), controls])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def batches_of(sample: Int[np.ndarray, " sample"], batch: int, method: str) -> Int[np.ndarray, " sample"]:
    """The index of each sample's independently randomised batch: the sample itself where all are independent."""
    return sample if method == "random" else sample // batch
