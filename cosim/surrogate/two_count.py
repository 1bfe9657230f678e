"""A bit line as a function of both counts of a read: the rows that pull it down, and those that do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cosim.errors import InputError
from cosim.surrogate.moments import Moments
from cosim.surrogate.polynomial import Polynomial

LEAST_SIGMA_V = 20e-6
"""Spreads below this are the simulator's tolerance, not physics."""


def scaled(count: Float[np.ndarray, "*shape"], rows: int) -> Float[np.ndarray, "*shape"]:
    """A count as a variable of the polynomials: powers of -1 to 1 are less alike than those of 0 to 1."""
    return 2 * count / rows - 1


@dataclass(frozen=True, slots=True)
class TwoCountModel:
    """Polynomials in both counts, each from -1 (none) to 1 (all rows), on the counts whose sum was measured.

    `own` rows pull the line (n_minus for BL, n_plus for BLB, its mirror image), `other` rows are on and do not.

    Args:
        fewest_active: The smallest number of active rows of the fitted reads; the largest is `rows`.
        direction: +1 where the line falls with `own`, so that it rises with the partial sum; -1 the other way round.
        lines: 1 for a column of one line, which has no differential sensing.
        mean: In volts; monotone in `own`, and in a column of one line in `other` as well.
        variance: In volts squared.
        skew: Skewness.
    """

    rows: int
    fewest_active: int
    direction: int
    lines: int
    mean: Polynomial
    variance: Polynomial
    skew: Polynomial

    def at(self, own: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> Moments:
        """Moments at pairs of counts, which need not be whole.

        Raises:
            InputError: A negative count, or more or fewer active rows than were measured.
        """
        own, other = np.broadcast_arrays(np.asarray(own, float), np.asarray(other, float))
        self._check(own, other)
        x, y = scaled(own, self.rows), scaled(other, self.rows)
        variance = np.maximum(self.variance(x, y), LEAST_SIGMA_V**2)
        return Moments(self.mean(x, y), np.sqrt(variance), self.skew(x, y))

    def _check(self, own: np.ndarray, other: np.ndarray) -> None:
        if not own.size:
            return
        least, active = min(own.min(), other.min()), own + other
        if least < -1e-9:
            raise InputError(f"count {least:g}, expected 0 to {self.rows}")
        if active.max() > self.rows + 1e-9:
            raise InputError(f"more than {self.rows} rows on")
        if active.min() < self.fewest_active - 1e-9:
            few = "all" if self.fewest_active == self.rows else f"{self.fewest_active} to"
            raise InputError(
                f"{active.min():g} active rows, but the column was measured with {few} {self.rows} rows on",
                hint="add the number to the recipe's column.active_rows",
            )
