"""The kernels again, slow and obvious: one cell, one column and one step at a time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

from cosim.fast.surface import Surface


def coefficients(
    surface: Surface,
    products: Int8[np.ndarray, " row"],
    weights: Int8[np.ndarray, " row"],
    vth_shift_v: Float[np.ndarray, "row device"],
) -> Float[np.ndarray, "line component"]:
    """What `kernels.coefficients` finds for one column."""
    total = np.zeros(surface.weight.shape[1::2])
    for product, weight, shifts in zip(products, weights, vth_shift_v / surface.scale_v, strict=True):
        state = 2 * (int(product) + 1) + int(weight > 0)
        for line in (0, 1):
            feature = np.ones(surface.features[state, line])
            for i in range(1, feature.size):
                feature[i] = feature[surface.parent[state, line, i]] * shifts[surface.device[state, line, i]]
            total[line] += feature @ surface.weight[state, line, : feature.size]
    return total


def integrate(
    coefficient: Float[np.ndarray, " component"],
    charge: Float[np.ndarray, " term"],
    middle_v: float,
    start_v: float,
    tables: Float[np.ndarray, "table voltage component"],
    voltage_v: Float[np.ndarray, " voltage"],
    plan: Float[np.ndarray, "step field"],
) -> Float[np.ndarray, " step"]:
    """What `kernels.integrate` finds for one line of one column; the tables stand at `voltage_v`."""
    c0, c1, c2, k0, k1 = charge

    def slope(volts: float, rate: float, word_v: float, table: float) -> float:
        u = volts - middle_v
        current = np.interp(volts, voltage_v, tables[int(table)] @ coefficient)
        return float((rate * (k0 + k1 * u) - current) / (c0 + c1 * u + c2 * u**2 - word_v * k1))

    volts, found = start_v, []
    for h, rate, first_v, middle_word_v, last_v, first, middle, last in plan:
        s1 = slope(volts, rate, first_v, first)
        s2 = slope(volts + h / 2 * s1, rate, middle_word_v, middle)
        s3 = slope(volts + h / 2 * s2, rate, middle_word_v, middle)
        s4 = slope(volts + h * s3, rate, last_v, last)
        volts += h / 6 * (s1 + 2 * s2 + 2 * s3 + s4)
        found.append(volts)
    return np.array(found)


def balance(
    coefficient: Float[np.ndarray, " component"],
    cells: Float[np.ndarray, "voltage component"],
    given: Float[np.ndarray, " voltage"],
    first_v: float,
    step_v: float,
) -> float:
    """What `kernels.balance` finds for one line of one column."""
    excess = cells @ coefficient - given
    above = int(np.clip(np.argmax(excess >= 0) if (excess >= 0).any() else excess.size, 1, excess.size - 1))
    slope = excess[above] - excess[above - 1]
    return float(first_v + step_v * (above - excess[above] / slope))
