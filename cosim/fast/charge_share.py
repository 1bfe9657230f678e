"""The fast column of lines that share their cells' charge: a closed form in the capacitors' deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from cosim.fast.column import check_arrays

PRODUCTS = (-1, 0, 1)
"""The order of every `product` axis."""


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """What a line that was reset to V_r ends at: V = V_r + u + sum_k b_k u^k + w, in volts.

    u = sum_i (C_i dV_s + q_s) / (sum_i C_i + C_p) over the rows i of product s, and
    w = C sum_i sum_k g_sk . shift_i^k / (sum_i C_i + C_p) with the nominal C. Fitted to full columns: the steps dV, the
    charges q (what the parasitics of a row add, and its part of what the switch injects), C_p, the bend (capacitances
    of transistors change with the line's voltage) and g.

    Args:
        rows: Rows of the column.
        reset_v: Level that the line is reset to, in volts.
        cell_f: Nominal capacitance of each device of a cell, in farads; 0 for a transistor.
        parasitic_f: C_p, in farads.
        charge_c: q of a row of product -1, 0, +1, in coulombs; 0 for a product that the cell has no input for.
        step_v: dV of the same, in volts.
        bend: b, in 1/V^(k - 1), from k = 2.
        effect: g, volts a volt^k, by power k from 1; 0 for a capacitor, whose deviation is in C_i.
        impossible: (product, weight) of the states that the cell has no input for.
    """

    rows: int
    reset_v: float
    cell_f: Float[np.ndarray, " device"]
    parasitic_f: float
    charge_c: Float[np.ndarray, " product"]
    step_v: Float[np.ndarray, " product"]
    bend: Float[np.ndarray, " power"]
    effect: Float[np.ndarray, "order product device"]
    impossible: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ChargeShareColumn:
    """A charge-sharing column that is read without a simulator.

    Args:
        sharing: The closed form.
        about: Where it comes from, and figures of the fit.
    """

    sharing: Sharing
    about: dict[str, str | int | float]

    def read(
        self,
        products: Int8[np.ndarray, "sample row"],
        weights: Int8[np.ndarray, "sample row"],
        vth_shift_v: Float[np.ndarray, "sample row device"],
    ) -> Float[np.ndarray, "sample line"]:
        """The line in volts, and NaN for a second one: as `cosim.fast.column.FastColumn.read`."""
        s = self.sharing
        check_arrays(products, weights, vth_shift_v, s.rows, s.cell_f.size, s.impossible)
        capacitance_f, rows = shares(products, vth_shift_v, s.cell_f)
        total_f = capacitance_f.sum(axis=1) + s.parasitic_f
        linear_v = _sums(capacitance_f * s.step_v + rows * s.charge_c) / total_f
        effect_v = np.zeros_like(linear_v)
        for order, effect in enumerate(s.effect, start=1):
            moved = powers(products, vth_shift_v, order) * effect
            effect_v += unit_f(s.cell_f) * _sums(moved.reshape(len(products), -1)) / total_f
        line_v = s.reset_v + bent(linear_v, s.bend) + effect_v
        return np.stack([line_v, np.full_like(line_v, np.nan)], axis=1)


def bent(linear_v: Float[np.ndarray, " sample"], bend: Float[np.ndarray, " power"]) -> Float[np.ndarray, " sample"]:
    """u + b_2 u^2 + b_3 u^3 ..., the powers added in one order whatever the number of samples."""
    found = linear_v.copy()
    for power, value in enumerate(bend, start=2):
        found += value * linear_v**power
    return found


def shares(
    products: Int8[np.ndarray, "sample row"],
    vth_shift_v: Float[np.ndarray, "sample row device"],
    cell_f: Float[np.ndarray, " device"],
) -> tuple[Float[np.ndarray, "sample product"], Float[np.ndarray, "sample product"]]:
    """By product -1, 0, +1: the capacitance of its rows in farads, and how many they are."""
    own_f = float(cell_f.sum()) + (vth_shift_v * cell_f).sum(axis=2)
    kinds = [products == value for value in PRODUCTS]
    capacitance_f = np.stack([(own_f * kind).sum(axis=1) for kind in kinds], axis=1)
    return capacitance_f, np.stack([kind.sum(axis=1) for kind in kinds], axis=1).astype(float)


def powers(
    products: Int8[np.ndarray, "sample row"], vth_shift_v: Float[np.ndarray, "sample row device"], order: int
) -> Float[np.ndarray, "sample product device"]:
    """Sums of a power of the shifts over the rows of each product."""
    values = vth_shift_v**order
    return np.stack([(values * (products == value)[:, :, None]).sum(axis=1) for value in PRODUCTS], axis=1)


def unit_f(cell_f: Float[np.ndarray, " device"]) -> float:
    """A cell's nominal capacitance, by which effects are counted; 1 fF for one whose capacitors have no mismatch."""
    return float(cell_f.sum()) or 1e-15


def _sums(terms: Float[np.ndarray, "sample term"]) -> Float[np.ndarray, " sample"]:
    """Sums along the terms, added in one order whatever the number of samples."""
    return np.ascontiguousarray(terms.T).sum(axis=0)
