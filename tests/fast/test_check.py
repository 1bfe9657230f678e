"""The verdict's bounds, on errors that are known."""

from __future__ import annotations

import numpy as np
import pytest

from cosim.fast.check import BOUND_COUNTS, BOUND_V, SIGMA_COUNTS, Check, compared

COUNTS, COUNT_V = (0, 10, 20), 10e-3


def full_v(draws: int = 50) -> np.ndarray:
    """10 mV a count and 20 mV of sigma on both lines."""
    noise_v = np.random.default_rng(2).normal(0, 20e-3, (len(COUNTS), draws, 2))
    count = np.array(COUNTS)[:, None]
    return noise_v + np.stack([1.0 - COUNT_V * count, 0.7 + COUNT_V * count], axis=2)


def verdict(fast_v: np.ndarray, wanted_v: np.ndarray, bound_v: float | None = BOUND_V) -> Check:
    return compared(COUNTS, fast_v, wanted_v, np.isfinite(wanted_v[:, :, 0]), bound_v)


def test_the_same_voltages_pass() -> None:
    wanted = full_v()
    result = verdict(wanted, wanted)
    assert result.passed
    assert result.within.all()


def test_a_bias_beyond_the_bound() -> None:
    wanted = full_v()
    fast = wanted.copy()
    fast[1, :, 0] += 0.11e-3
    result = verdict(fast, wanted)
    assert not result.passed
    assert result.within.all(axis=1).tolist() == [True, False, True]
    assert result.within[1].tolist() == [False, True, False], "the difference has the first line's error"


def test_a_mean_is_held_against_half_a_count() -> None:
    wanted = full_v()
    slope_v = verdict(wanted, wanted).volts_a_count[0, 0]
    shifted = [verdict(wanted + np.array([share * slope_v, 0]), wanted, bound_v=1.0) for share in (0.09, 0.11)]
    assert [each.within[0, 0] for each in shifted] == [True, False]
    assert shifted[0].mean_error_counts[0, 0] == pytest.approx(0.09)


def test_a_sigma_is_held_against_two_percent() -> None:
    wanted = full_v()
    mean = wanted.mean(axis=1, keepdims=True)
    wider = [verdict(mean + (1 + share) * (wanted - mean), wanted, bound_v=1.0) for share in (0.019, -0.021)]
    assert [each.passed for each in wider] == [True, False]
    assert wider[1].sigma_error[0, 0] == pytest.approx(0.021)


def test_a_sigma_of_nothing_is_held_against_half_a_count() -> None:
    wanted = full_v()
    wanted[0, :, 0] = 1.0
    fast = wanted.copy()
    fast[0, ::2, 0] += 2e-6
    result = verdict(fast, wanted)
    assert result.sigma_v[0, 0] == 0
    assert result.sigma_error[0, 0] == pytest.approx(1e-6 / (SIGMA_COUNTS * result.volts_a_count[0, 0]))


def test_the_bound_of_another_style_is_a_share_of_its_smallest_count() -> None:
    wanted = full_v()
    result = verdict(wanted, wanted, bound_v=None)
    assert result.bound_v == pytest.approx(BOUND_COUNTS * result.volts_a_count[:, 0].min())


def test_flipped_draws_never_pass() -> None:
    wanted = full_v()
    wanted[2, 4] = np.nan
    result = verdict(full_v(), wanted)
    assert result.within.all(axis=1).tolist() == [True, True, False]
    assert np.isfinite(result.bias_v).all()
