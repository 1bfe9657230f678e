"""The surrogate: a fitted model of one column's bit lines and of its comparators, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from cosim.errors import InputError
from cosim.surrogate.comparator import ComparatorModel
from cosim.surrogate.moments import Moments, Sensing
from cosim.surrogate.two_count import TwoCountModel

__all__ = ["ComparatorModel", "LineModel", "Moments", "Sensing", "Surrogate"]


@dataclass(frozen=True, slots=True)
class LineModel:
    """One bit line against the number of rows that pull it down, at each count from 0 to `rows`.

    BL and BLB are mirror images, and each row pulls one of them, so one curve serves both.

    Args:
        mean_v: Never rises with the count; the other way round where the surrogate's `direction` is -1.
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
class Surrogate:
    """A fitted column with its comparators.

    Args:
        line: A bit line against its own count; with `two_count` that of reads with all rows on.
        validation: Figures on held-out samples, by name.
        provenance: Texts, hashes, versions and seeds; see the file format.
        two_count: The line as a function of both counts, where the samples needed or allowed one.
    """

    line: LineModel
    comparators: Mapping[Sensing, ComparatorModel]
    validation: Mapping[str, float]
    provenance: Mapping[str, str | int | float]
    two_count: TwoCountModel | None = None

    @property
    def rows(self) -> int:
        """Rows of the column."""
        return self.line.rows

    @property
    def lines(self) -> int:
        """Bit lines of the column: 1 or 2."""
        return self.two_count.lines if self.two_count is not None else 2

    @property
    def sensings(self) -> tuple[Sensing, ...]:
        """How the column can be sensed: a column of one line single-ended alone."""
        return get_args(Sensing) if self.lines == 2 else ("single_ended",)

    @property
    def direction(self) -> int:
        """+1 where the sensed voltage rises with the partial sum, -1 where it falls."""
        return self.two_count.direction if self.two_count is not None else 1

    def moments(self, sensing: Sensing, n_minus: Float[np.ndarray, "..."], n_plus: Float[np.ndarray, "..."]) -> Moments:
        """The sensed voltage: BL for single-ended sensing, BL - BLB for differential.

        The two lines are pulled by different cells, so their fluctuations are independent and cumulants add.

        Raises:
            InputError: More rows on than the column has, a negative count, a number of active rows that was not
                measured, or differential sensing of a column of one line.
        """
        if np.max(np.asarray(n_minus) + np.asarray(n_plus), initial=0) > self.rows + 1e-9:
            raise InputError(f"more than {self.rows} rows on")
        self.check_sensing(sensing)
        line = self._line_at(n_minus, n_plus)
        if sensing == "single_ended":
            return line
        bar = self._line_at(n_plus, n_minus)
        sigma_v = np.hypot(line.sigma_v, bar.sigma_v)
        third = line.skew * line.sigma_v**3 - bar.skew * bar.sigma_v**3
        safe = np.where(sigma_v > 0, sigma_v, 1.0)
        return Moments(line.mean_v - bar.mean_v, sigma_v, third / safe**3)

    def common_mode_v(
        self, n_minus: Float[np.ndarray, "*count"], n_plus: Float[np.ndarray, "*count"]
    ) -> Float[np.ndarray, "*count"]:
        """(BL + BLB) / 2 of the mean read, at which a differential comparator decides.

        Raises:
            InputError: As `moments`.
        """
        self.check_sensing("differential")
        return (self._line_at(n_minus, n_plus).mean_v + self._line_at(n_plus, n_minus).mean_v) / 2

    def offset(self, sensing: Sensing, n_active: int, reference_v: Float[np.ndarray, " reference"]) -> Moments:
        """The comparator's offset at each reference; (count, reference) where it depends on the common mode.

        Raises:
            InputError: A reference or a read's common mode beyond those measured, or no such comparator.
        """
        model = self.comparator(sensing)
        if not model.gridded:
            return model.at(reference_v)
        n_minus = np.arange(n_active + 1.0)
        try:
            return model.at(reference_v, self.common_mode_v(n_minus, n_active - n_minus))
        except InputError as error:
            where = f"{error.message}, with {n_active} active rows"
            raise InputError(where, hint=error.hint) from error

    def check_sensing(self, sensing: Sensing) -> None:
        """Refuse sensing that the column has no lines for.

        Raises:
            InputError: Differential sensing of a column of one line.
        """
        if sensing not in self.sensings:
            raise InputError(f"{sensing} sensing of a column of one line", hint="use single_ended")

    def check_active(self, sensing: Sensing, n_active: int) -> None:
        """Refuse differential sensing of a column with few rows on, if offsets were measured at one common mode.

        Both lines stay high there. In the shipped column the lines balance at 0.59 V with all 64 rows on, at 0.68 V
        with 48 and at 0.89 V with 16: three quarters are within 0.1 V of the 0.6 V of the measurement, and a
        comparator's sigma is more than twice as large at 0.9 V. Where several common modes were measured, the read's
        own decides.

        Raises:
            InputError: Fewer than three quarters of the rows are active.
        """
        self.check_sensing(sensing)
        model = self.comparators.get(sensing)
        fewest = -(-3 * self.rows // 4)
        if sensing == "differential" and n_active < fewest and not (model is not None and model.gridded):
            raise InputError(
                f"differential sensing with {n_active} active rows, expected at least {fewest} of {self.rows}: "
                "the lines stay above the common mode at which the offsets were measured",
                hint="use single_ended, or give the recipe's comparator several common_mode_v",
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

    def _line_at(self, own: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> Moments:
        return self.line.at(own) if self.two_count is None else self.two_count.at(own, other)
