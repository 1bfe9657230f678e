"""The surrogate: a fitted model of one column's bit lines and of its comparators, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from cosim.errors import InputError

Sensing = Literal["single_ended", "differential"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation in volts and skewness of a sensed voltage; arrays of one shape."""

    mean_v: Float[np.ndarray, "..."]
    sigma_v: Float[np.ndarray, "..."]
    skew: Float[np.ndarray, "..."]


@dataclass(frozen=True, slots=True)
class LineModel:
    """One bit line against the number of rows that pull it down, at each count from 0 to `rows`.

    BL and BLB are mirror images, and each row pulls one of them, so one curve serves both.

    Args:
        mean_v: Never rises with the count.
        *_error: Bootstrap standard errors of the fit.
    """

    mean_v: Float[np.ndarray, " count"]
    sigma_v: Float[np.ndarray, " count"]
    skew: Float[np.ndarray, " count"]
    mean_error_v: Float[np.ndarray, " count"]
    sigma_error_v: Float[np.ndarray, " count"]
    skew_error: Float[np.ndarray, " count"]

    @property
    def rows(self) -> int:
        """Rows of the column."""
        return self.mean_v.size - 1

    def at(self, count: Float[np.ndarray, "..."]) -> Moments:
        """Moments at counts that may lie between whole ones (monotone cubic interpolation).

        Raises:
            InputError: A count outside 0 to rows.
        """
        count = np.asarray(count, float)
        if count.size and (count.min() < 0 or count.max() > self.rows):
            raise InputError(f"count {count.min():g} to {count.max():g}, expected 0 to {self.rows}")
        grid = np.arange(self.rows + 1)
        curves = [PchipInterpolator(grid, values)(count) for values in (self.mean_v, self.sigma_v, self.skew)]
        return Moments(*curves)


@dataclass(frozen=True, slots=True)
class ComparatorModel:
    """Input-referred offset against the reference level.

    Args:
        level_v: Levels at which offsets were measured, rising.
        offset_skew: 0 where the samples do not tell it from none.
        sigma_error_v: Standard error of each sigma.
        samples: Offsets fitted at each level.
    """

    amplifier: str
    level_v: Float[np.ndarray, " level"]
    offset_mean_v: Float[np.ndarray, " level"]
    offset_sigma_v: Float[np.ndarray, " level"]
    offset_skew: Float[np.ndarray, " level"]
    sigma_error_v: Float[np.ndarray, " level"]
    samples: int

    def at(self, level_v: Float[np.ndarray, " reference"]) -> Moments:
        """Moments of the offset at references between the measured levels; never beyond them.

        Raises:
            InputError: A reference outside the measured levels.
        """
        low, high = self.level_v[0], self.level_v[-1]
        if level_v.size and (level_v.min() < low - 1e-9 or level_v.max() > high + 1e-9):
            raise InputError(
                f"a reference of {level_v.min():.3f} to {level_v.max():.3f} V, but {self.amplifier} was measured "
                f"from {low:.3f} to {high:.3f} V",
                hint="add levels to the recipe's comparator",
            )
        level_v = np.clip(level_v, low, high)
        mean_v = PchipInterpolator(self.level_v, self.offset_mean_v)(level_v)
        # Log, so that sigma stays positive between the levels.
        sigma_v = np.exp(PchipInterpolator(self.level_v, np.log(self.offset_sigma_v))(level_v))
        return Moments(mean_v, sigma_v, PchipInterpolator(self.level_v, self.offset_skew)(level_v))


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A fitted column with its comparators.

    Args:
        validation: Figures on held-out samples, by name.
        provenance: Texts, hashes, versions and seeds; see the file format.
    """

    line: LineModel
    comparators: Mapping[Sensing, ComparatorModel]
    validation: Mapping[str, float]
    provenance: Mapping[str, str | int | float]

    @property
    def rows(self) -> int:
        """Rows of the column."""
        return self.line.rows

    def moments(self, sensing: Sensing, n_minus: Float[np.ndarray, "..."], n_plus: Float[np.ndarray, "..."]) -> Moments:
        """The sensed voltage: BL for single-ended sensing, BL - BLB for differential.

        The two lines are pulled by different cells, so their fluctuations are independent and cumulants add.

        Raises:
            InputError: More rows on than the column has, or a negative count.
        """
        if np.max(np.asarray(n_minus) + np.asarray(n_plus), initial=0) > self.rows + 1e-9:
            raise InputError(f"more than {self.rows} rows on")
        line = self.line.at(n_minus)
        if sensing == "single_ended":
            return line
        bar = self.line.at(n_plus)
        sigma_v = np.hypot(line.sigma_v, bar.sigma_v)
        third = line.skew * line.sigma_v**3 - bar.skew * bar.sigma_v**3
        safe = np.where(sigma_v > 0, sigma_v, 1.0)
        return Moments(line.mean_v - bar.mean_v, sigma_v, third / safe**3)

    def check_active(self, sensing: Sensing, n_active: int) -> None:
        """Refuse differential sensing of a column with few rows on, for which no offsets were measured.

        Both lines stay high there, and offsets are measured at one common mode. In the shipped column the lines
        balance at 0.59 V with all 64 rows on, at 0.68 V with 48 and at 0.89 V with 16: three quarters are within
        0.1 V of the 0.6 V of the measurement, and a comparator's sigma is more than twice as large at 0.9 V.

        Raises:
            InputError: Fewer than three quarters of the rows are active.
        """
        fewest = -(-3 * self.rows // 4)
        if sensing == "differential" and n_active < fewest:
            raise InputError(
                f"differential sensing with {n_active} active rows, expected at least {fewest} of {self.rows}: "
                "the lines stay above the common mode at which the offsets were measured",
                hint="use single_ended",
            )

    def save(self, path: str | Path) -> None:
        """Write the surrogate as an HDF5 file; see `cosim.surrogate.files.save_surrogate`."""
        from cosim.surrogate.files import save_surrogate  # Not above: it imports this module.

        save_surrogate(self, Path(path))

    def comparator(self, sensing: Sensing) -> ComparatorModel:
        """The comparator that senses in this style.

        Raises:
            InputError: None was characterized.
        """
        if sensing not in self.comparators:
            known = ", ".join(self.comparators) or "none"
            raise InputError(f"no comparator for {sensing} sensing in this surrogate (it has: {known})")
        return self.comparators[sensing]
