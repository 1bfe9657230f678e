"""Moments of groups of reads, each with its errors, and the same again as other samples would have given them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from cosim.campaign.moments import Moments, moments
from cosim.errors import InputError

LEAST_SIGMA_V = 20e-6
"""Spreads below this are the simulator's tolerance, not physics."""


@dataclass(frozen=True, slots=True)
class Group:
    """Voltages of one population, with what their draws tell of them beforehand.

    Args:
        control: Of mean 0 and variance 1, uncorrelated; None for none.
        batch: Which reads belong to the same randomised point set; None where each is independent.
        curved: The rest is taken as curvature along the one control, r ~ x^2 - 1, whose E[x^2 r^2] is five times that
            of an independent r: few samples do not show it, as it lies in their tails.
    """

    volts: Float[np.ndarray, " read"]
    control: Float[np.ndarray, "read control"] | None = None
    batch: Shaped[np.ndarray, " read"] | None = None
    curved: bool = False

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> Group:
        """The reads where the mask is set."""
        return Group(
            self.volts[mask],
            None if self.control is None else self.control[mask],
            None if self.batch is None else self.batch[mask],
            self.curved,
        )

    def moments(self) -> Moments:
        """The moments with their errors; no skewness where the spread is the simulator's."""
        found = moments(self.volts, self.control, self.batch)
        if found.variance <= LEAST_SIGMA_V**2:
            return replace(found, variance=LEAST_SIGMA_V**2, skew=0.0)
        if self.curved:
            return replace(found, freedom=found.freedom / 5, skew_error=found.skew_error * np.sqrt(5))
        return found


@dataclass(frozen=True, slots=True)
class Estimates:
    """Moments of several groups; see `Moments`."""

    mean_v: Float[np.ndarray, " group"]
    variance: Float[np.ndarray, " group"]
    skew: Float[np.ndarray, " group"]
    mean_error_v: Float[np.ndarray, " group"]
    freedom: Float[np.ndarray, " group"]
    skew_error: Float[np.ndarray, " group"]
    spread: Bool[np.ndarray, " group"]

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Estimates:
        """Those of some groups, in their order."""
        found = [group.moments() for group in groups]
        size = np.array([each.samples for each in found])

        def values(name: str) -> Float[np.ndarray, " group"]:
            return np.array([float(getattr(each, name)) for each in found])

        return cls(
            mean_v=values("mean"),
            variance=values("variance"),
            skew=values("skew"),
            mean_error_v=np.maximum(values("mean_error"), LEAST_SIGMA_V / np.sqrt(size)),
            freedom=values("freedom"),
            skew_error=np.where(values("skew_error") > 0, values("skew_error"), np.sqrt(6 / size)),
            spread=values("variance") > LEAST_SIGMA_V**2,
        )

    @property
    def variance_samples(self) -> Int[np.ndarray, " group"]:
        """Independent samples, without controls, that would give the variance as well."""
        return np.rint(self.freedom).astype(int) + 1

    @property
    def skew_samples(self) -> Int[np.ndarray, " group"]:
        """Independent samples, without controls, that would give the skewness as well."""
        return np.rint(6 / self.skew_error**2).astype(int)

    def perturbed(self, generator: np.random.Generator) -> Estimates:
        """What other samples might have given: mean and skewness normal, the variance a chi-square.

        A bootstrap of the reads would show too little: resampled, few reads have no tails beyond their own, and the
        skewness of 48 of them scatters by a sixth too little.
        """
        size = self.mean_v.size
        return replace(
            self,
            mean_v=self.mean_v + self.mean_error_v * self.spread * generator.standard_normal(size),
            variance=self.variance * np.where(self.spread, generator.chisquare(self.freedom) / self.freedom, 1.0),
            skew=self.skew + self.skew_error * self.spread * generator.standard_normal(size),
        )


FEWEST_SAMPLES = 8


def check_sizes(sizes: Iterable[int], what: str) -> None:
    """Refuse groups of too few samples.

    Raises:
        InputError: Saying of what there are too few.
    """
    fewest = min(sizes, default=0)
    if fewest < FEWEST_SAMPLES:
        raise InputError(f"{fewest} {what}, expected at least {FEWEST_SAMPLES}", hint="raise samples in the recipe")
