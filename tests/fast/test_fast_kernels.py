"""The compiled loops against their slow twins and a closed form; the same bits in any batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import synthetic

from cosim.errors import InputError
from cosim.fast import kernels, reference
from cosim.fast.column import counts_of
from cosim.fast.electrical import MIDDLE, Electrical


def test_coefficients_equal_the_reference() -> None:
    fast = synthetic.column()
    products, weights, shift_v = synthetic.draws(7)
    found = fast.surface.coefficients(products, weights, shift_v)
    for sample in range(7):
        slow = reference.coefficients(fast.surface, products[sample], weights[sample], shift_v[sample])
        # Sums of some hundred terms in another order.
        np.testing.assert_allclose(found[sample], slow, rtol=0, atol=1e-12 * abs(slow).max())


def test_integration_equals_the_reference() -> None:
    electrical = Electrical(1e-16, -3e-17, 2e-17, 1e-17, 3e-17, 4e-17, 2e-17, -5e-18)
    fast = synthetic.column(electrical=electrical)
    draws = synthetic.draws(6)
    found = fast.trace(*draws)
    coefficient = fast.surface.coefficients(*draws)
    charge = electrical.charge(counts_of(draws[0]), 4, fast.waveform.c_bit_line_f)
    tables, first_v, step_v = fast.tables
    voltage_v = first_v + step_v * np.arange(tables.shape[1])
    plan, marks = fast.plan
    for sample in range(6):
        for line in (0, 1):
            terms = coefficient[sample, line], charge[sample, line]
            slow = reference.integrate(*terms, MIDDLE * 1.0, 1.0, tables, voltage_v, plan)
            np.testing.assert_allclose(found[sample, line], slow[marks], rtol=1e-11)


def test_exponential_discharge() -> None:
    """A current of V / R on a word line without edges to speak of: V = V0 exp(-t / RC)."""
    tables = np.array([[[0.0], [1.0]]]) / 10e3
    plan = np.array([[5e-12, 0.0, 0.0, 0.0, 0.0, 0, 0, 0]] * 20)
    charge = np.array([[[20e-15, 0.0, 0.0, 0.0, 0.0]]])
    found = kernels.integrate(np.ones((1, 1, 1)), charge, 0.7, np.array([0.9]), tables, 0.0, 1.0, plan)
    # Fourth order: h = RC / 40, so an error of h^5 / 120 a step.
    np.testing.assert_allclose(found[0, 0], 0.9 * np.exp(-5e-12 * np.arange(1, 21) / 200e-12), rtol=1e-8)


def test_coupling_is_taken_out_again() -> None:
    """Without currents, the word line lifts the line by its charge over the capacitance, and lets it down again."""
    fast = synthetic.column(electrical=Electrical(row_f=0.0, slope_f_v=0.0, couple_f=1e-16, tilt_pulling_f_v=2e-17))
    still = dataclasses.replace(fast, surface=dataclasses.replace(fast.surface, basis_a=0 * fast.surface.basis_a))
    products = np.array([[-1, -1, 1, 0]], np.int8)
    found = still.trace(products, np.ones_like(products), np.zeros((1, 4, 3)))[0]
    # Three rows are on, one of them pulls this line, which stands 0.3 V above the middle.
    assert found[1, 0] == pytest.approx(1 + (3e-16 + 0.3 * 2e-17) * 0.5 / 20e-15, abs=1e-5)
    np.testing.assert_allclose(found[:, -1], 1.0, atol=1e-12)


def test_same_bits_in_any_batch() -> None:
    fast = synthetic.column()
    products, weights, shift_v = synthetic.draws(50)
    whole = fast.read(products, weights, shift_v)
    parts = [fast.read(products[i : i + 7], weights[i : i + 7], shift_v[i : i + 7]) for i in range(0, 50, 7)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert fast.read(products[:0], weights[:0], shift_v[:0]).shape == (0, 2)


def test_more_rows_pull_further_down() -> None:
    fast = synthetic.column(rows=8)
    products = np.where(np.arange(8) < np.arange(9)[:, None], -1, 1).astype(np.int8)
    found = fast.read(products, np.ones_like(products), np.zeros((9, 8, 3)))
    assert (np.diff(found[:, 0]) < 0).all()
    assert (np.diff(found[:, 1]) > 0).all()
    np.testing.assert_allclose(found[0, 0], 1.0, atol=1e-9)


def test_refuses_wrong_arrays() -> None:
    fast = synthetic.column()
    products, weights, shift_v = synthetic.draws(3)
    for wrong in (
        (products[:, :3], weights, shift_v),
        (products, weights * 0, shift_v),
        (products * 2, weights, shift_v),
        (products, weights, shift_v[:, :, :2]),
        (products, weights, shift_v * np.nan),
    ):
        with pytest.raises(InputError):
            fast.read(*wrong)
    features = fast.surface.features.copy()
    features[5] = 0
    other = dataclasses.replace(fast, surface=dataclasses.replace(fast.surface, features=features))
    with pytest.raises(InputError, match=r"\+1 with weight \+1"):
        other.read(np.ones_like(products), np.ones_like(weights), shift_v)
