"""Polynomials find back the currents that they were made from."""

from __future__ import annotations

import dataclasses

import numpy as np
import synthetic

from cosim.fast import reference
from cosim.fast.surface import fit_surface


def test_finds_the_law_back() -> None:
    surface = fit_surface(synthetic.bank())
    products, weights, shift_v = synthetic.draws(5)
    for sample in range(5):
        found = reference.coefficients(surface, products[sample], weights[sample], shift_v[sample])
        for line, pulled in ((0, products[sample] == -1), (1, products[sample] == 1)):
            curves = np.tensordot(found[line], surface.basis_a, axes=1)
            wanted = [
                [synthetic.law(shift_v[sample][pulled], x, v).sum() for v in surface.voltage_v] for x in surface.level
            ]
            # Third order at most, so the fit is exact but for rounding and the components that are dropped (2e-6).
            np.testing.assert_allclose(curves, wanted, rtol=0, atol=4e-5 * 1e-5)


def test_states_its_error() -> None:
    noisy = synthetic.bank()
    noise = np.random.default_rng(0).normal(1, 0.02, noisy.current_a.shape[:3])[..., None, None]
    surface = fit_surface(dataclasses.replace(noisy, current_a=noisy.current_a * noise))
    pulled = surface.error[[0, 5], [0, 1]]
    # 2 % of noise that no polynomial explains, and some for fitting it.
    assert (pulled > 0.015).all()
    assert (pulled < 0.04).all()
    assert fit_surface(noisy).error.max() < 1e-4


def test_flipped_cells_are_left_out() -> None:
    good = synthetic.bank()
    current_a, settled = good.current_a.copy(), good.settled.copy()
    current_a[:, :, ::10] *= -3
    settled[:, ::10] = False
    surface = fit_surface(dataclasses.replace(good, current_a=current_a, settled=settled))
    assert surface.error.max() < 1e-4


def test_impossible_states_have_no_features() -> None:
    possible = np.array([True, False, True, True, False, True])
    surface = fit_surface(dataclasses.replace(synthetic.bank(), possible=possible))
    assert (surface.features[~possible] == 0).all()
    assert (surface.features[possible] > 0).all()
