"""The capacitance with which a model errs least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from scipy.optimize import minimize_scalar


def fitted_capacitance_f(
    error_v: Callable[[float], np.ndarray], low_f: float, high_f: float, tolerance: float
) -> float:
    """The capacitance between two, in farads, with the least mean square of the model's errors.

    Args:
        error_v: The errors with a capacitance, in volts.
        low_f: The least.
        high_f: The most.
        tolerance: Of the result, relative.

    >>> round(fitted_capacitance_f(lambda value_f: np.array([value_f / 1e-15 - 3.0]), 1e-15, 9e-15, 1e-6) / 1e-15, 4)
    3.0
    """

    def squares(logarithm: float) -> float:
        return float((error_v(float(np.exp(logarithm))) ** 2).mean())

    bounds = float(np.log(low_f)), float(np.log(high_f))
    found = cast(Any, minimize_scalar)(squares, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(np.exp(found.x))
