"""Estimates with intervals; no bare mean leaves the library."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosim.errors import InputError


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its 95 % confidence interval and the number of samples it rests on."""

    value: float
    low: float
    high: float
    n: int


def proportion(successes: int, n: int, z: float = 1.959963984540054) -> Estimate:
    """A proportion and its Wilson score interval (Wilson, JASA 22(158), 1927), 95 % by default.

    Raises:
        InputError: n is not positive or successes lies outside 0..n.

    >>> e = proportion(88, 100)
    >>> round(e.value, 4), round(e.low, 4), round(e.high, 4)
    (0.88, 0.8019, 0.93)
    """
    if n <= 0 or not 0 <= successes <= n:
        raise InputError(f"expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding may put an end of the interval past the share, at 0 and at n of n.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), n)
