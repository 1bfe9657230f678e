"""Compiled loops of the fast column: cells to coefficients, and many columns through time.

Each column is computed by itself in a fixed order, so its voltages do not depend on the batch that it is in.
The obvious twins are in `reference.py`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8, Int64

from cosim.compiling import compiled


@compiled
def coefficients(
    products: Int8[np.ndarray, "sample row"],
    weights: Int8[np.ndarray, "sample row"],
    shift_v: Float[np.ndarray, "sample row device"],
    scale_v: Float[np.ndarray, " device"],
    parent: Int64[np.ndarray, "state line feature"],
    device: Int64[np.ndarray, "state line feature"],
    features: Int64[np.ndarray, "state line"],
    weight: Float[np.ndarray, "state line feature component"],
) -> Float[np.ndarray, "sample line component"]:
    """Sums of the cells' coefficient vectors; the polynomials are as in `surface.Surface`."""
    samples, rows = products.shape
    states, lines, longest, components = weight.shape
    found = np.zeros((samples, lines, components))
    sums = np.empty((states, lines, longest))
    feature = np.ones(longest)
    for sample in range(samples):
        sums[:] = 0.0
        for row in range(rows):
            state = 2 * (products[sample, row] + 1) + (1 if weights[sample, row] > 0 else 0)
            for line in range(lines):
                sums[state, line, 0] += 1.0
                for i in range(1, features[state, line]):
                    which = device[state, line, i]
                    feature[i] = feature[parent[state, line, i]] * (shift_v[sample, row, which] / scale_v[which])
                    sums[state, line, i] += feature[i]
        for state in range(states):
            for line in range(lines):
                for i in range(features[state, line]):
                    for component in range(components):
                        found[sample, line, component] += sums[state, line, i] * weight[state, line, i, component]
    return found


@compiled
def integrate(
    coefficient: Float[np.ndarray, "sample line component"],
    charge: Float[np.ndarray, "sample line term"],
    middle_v: float,
    start_v: Float[np.ndarray, " line"],
    tables: Float[np.ndarray, "table voltage component"],
    first_v: float,
    step_v: float,
    plan: Float[np.ndarray, "step field"],
) -> Float[np.ndarray, "sample line step"]:
    """Bit-line voltages at the end of every step, by Runge-Kutta steps of fourth order.

    The line's charge is Q(V, W) = c0 u + c1 u^2/2 + c2 u^3/3 - W (k0 + k1 u), u = V - middle, W the word line's
    voltage; dQ/dt = -I(V, t).

    Args:
        coefficient: What the currents of the components are multiplied by.
        charge: c0, c1, c2, k0, k1 of each column and line.
        middle_v: In volts.
        start_v: In volts.
        tables: Currents of the components on voltages `first_v + step_v i`.
        first_v: The tables' first voltage.
        step_v: Between the tables' voltages.
        plan: Seconds, dW/dt, W at the step's beginning, middle and end, and the tables there.
    """
    samples, lines, _ = coefficient.shape
    found = np.empty((samples, lines, plan.shape[0]))
    for sample in range(samples):
        for line in range(lines):
            sums = coefficient[sample, line]
            own = charge[sample, line]
            volts = start_v[line]
            for step in range(plan.shape[0]):
                h, rate = plan[step, 0], plan[step, 1]
                a, b, c = int(plan[step, 5]), int(plan[step, 6]), int(plan[step, 7])
                k1 = _slope(volts, sums, tables[a], first_v, step_v, rate, plan[step, 2], own, middle_v)
                k2 = _slope(volts + 0.5 * h * k1, sums, tables[b], first_v, step_v, rate, plan[step, 3], own, middle_v)
                k3 = _slope(volts + 0.5 * h * k2, sums, tables[b], first_v, step_v, rate, plan[step, 3], own, middle_v)
                k4 = _slope(volts + h * k3, sums, tables[c], first_v, step_v, rate, plan[step, 4], own, middle_v)
                volts += h * (k1 + 2.0 * k2 + 2.0 * k3 + k4) / 6.0
                found[sample, line, step] = volts
    return found


@compiled
def _slope(
    volts: float,
    sums: np.ndarray,
    table: np.ndarray,
    first_v: float,
    step_v: float,
    rate: float,
    word_v: float,
    own: np.ndarray,
    middle_v: float,
) -> float:
    """dV/dt; the current is linear between the table's voltages and beyond its ends."""
    place = (volts - first_v) / step_v
    cell = min(max(int(place), 0), table.shape[0] - 2)
    part = place - cell
    current = 0.0
    for i in range(sums.size):
        current += sums[i] * (table[cell, i] + part * (table[cell + 1, i] - table[cell, i]))
    u = volts - middle_v
    capacitance = own[0] + u * (own[1] + u * own[2]) - word_v * own[4]
    return (rate * (own[3] + u * own[4]) - current) / capacitance


@compiled
def balance(
    coefficient: Float[np.ndarray, "sample line component"],
    cells: Float[np.ndarray, "voltage component"],
    given: Float[np.ndarray, "line voltage"],
    first_v: float,
    step_v: float,
) -> Float[np.ndarray, "sample line"]:
    """Voltages where what holds a line gives what its cells draw; currents are linear between the tables' voltages.

    What is drawn less what is given rises with the voltage; a balance beyond the tables' ends is extrapolated.

    Args:
        coefficient: What the currents of the components are multiplied by.
        cells: Currents of the components on voltages `first_v + step_v i`.
        given: Currents into each line from what holds it, on the same voltages.
        first_v: The tables' first voltage.
        step_v: Between the tables' voltages.
    """
    samples, lines, _ = coefficient.shape
    found = np.empty((samples, lines))
    for sample in range(samples):
        for line in range(lines):
            low, high = 0, cells.shape[0] - 1
            while high - low > 1:
                middle = (low + high) // 2
                if _excess(coefficient[sample, line], cells[middle], given[line, middle]) < 0:
                    low = middle
                else:
                    high = middle
            below = _excess(coefficient[sample, line], cells[low], given[line, low])
            above = _excess(coefficient[sample, line], cells[high], given[line, high])
            found[sample, line] = first_v + step_v * (low - below / (above - below))
    return found


@compiled
def at(
    table: Float[np.ndarray, "line voltage"],
    volts: Float[np.ndarray, "sample line"],
    first_v: float,
    step_v: float,
) -> Float[np.ndarray, "sample line"]:
    """A table's values at each line's voltage, linear between the table's voltages and beyond its ends."""
    found = np.empty_like(volts)
    for sample in range(volts.shape[0]):
        for line in range(volts.shape[1]):
            place = (volts[sample, line] - first_v) / step_v
            cell = min(max(int(place), 0), table.shape[1] - 2)
            found[sample, line] = table[line, cell] + (place - cell) * (table[line, cell + 1] - table[line, cell])
    return found


@compiled
def _excess(sums: np.ndarray, components: np.ndarray, given: float) -> float:
    total = -given
    for i in range(sums.size):
        total += sums[i] * components[i]
    return total
