"""The surrogate's own arithmetic: interpolation, cumulants of a difference, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_columns import comparators, draw, true_surrogate, truth

from cosim.errors import InputError


def test_whole_counts_are_the_fit_itself() -> None:
    line = truth()
    found = line.at(np.arange(65.0))
    np.testing.assert_allclose(found.mean_v, line.mean_v, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.sigma_v, line.sigma_v, rtol=0, atol=1e-12)


def test_between_counts_the_mean_still_falls() -> None:
    assert (np.diff(truth().at(np.linspace(0, 64, 2000)).mean_v) < 0).all()


@pytest.mark.parametrize("count", [-0.5, 64.5, 1e9])
def test_no_count_is_extrapolated(count: float) -> None:
    with pytest.raises(InputError, match="expected 0 to 64"):
        truth().at(np.array([1.0, count]))


def test_the_difference_has_the_moments_of_a_difference() -> None:
    """Against 200,000 draws of both lines: mean and sigma to five standard errors, the skew to 0.05."""
    line, generator = truth(), np.random.default_rng(0)
    for minus, plus in ((8, 56), (32, 32), (20, 10), (0, 64)):
        volts = draw(line, minus, 200_000, generator) - draw(line, plus, 200_000, generator)
        found = true_surrogate().moments("differential", np.array([float(minus)]), np.array([float(plus)]))
        assert found.mean_v[0] == pytest.approx(volts.mean(), abs=5 * volts.std() / np.sqrt(200_000))
        assert found.sigma_v[0] == pytest.approx(volts.std(), rel=5 / np.sqrt(400_000) * 1.2)
        assert found.skew[0] == pytest.approx(((volts - volts.mean()) ** 3).mean() / volts.std() ** 3, abs=0.05)


def test_single_ended_sees_one_line() -> None:
    found = true_surrogate().moments("single_ended", np.array([5.0]), np.array([20.0]))
    assert found.mean_v[0] == pytest.approx(truth().mean_v[5])


def test_exchanging_the_lines_changes_the_sign() -> None:
    minus, plus = np.array([3.0, 10.0, 40.0]), np.array([60.0, 10.0, 20.0])
    surrogate = true_surrogate()
    there, back = surrogate.moments("differential", minus, plus), surrogate.moments("differential", plus, minus)
    np.testing.assert_allclose(there.mean_v, -back.mean_v)
    np.testing.assert_allclose(there.sigma_v, back.sigma_v)
    np.testing.assert_allclose(there.skew, -back.skew, atol=1e-12)


def test_more_rows_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="more than 64 rows on"):
        true_surrogate().moments("differential", np.array([40.0]), np.array([30.0]))


def test_comparators_are_interpolated_and_never_extrapolated() -> None:
    model = comparators()["single_ended"]
    between = np.linspace(model.level_v[0], model.level_v[-1], 100)
    found = model.at(between)
    assert (np.diff(found.sigma_v) > 0).all()
    np.testing.assert_allclose(found.sigma_v, 15e-3 * (1 + 0.3 * between), rtol=1e-3)
    np.testing.assert_allclose(model.at(model.level_v).mean_v, model.offset_mean_v)
    for beyond in (model.level_v[0] - 0.01, model.level_v[-1] + 0.01):
        with pytest.raises(InputError, match=r"a reference of .* but ideal was measured from 0.300 to 1.050 V"):
            model.at(np.array([0.5, beyond]))


def test_a_comparator_that_was_not_characterized() -> None:
    surrogate = true_surrogate()
    alone = type(surrogate)(surrogate.line, {"differential": surrogate.comparators["differential"]}, {}, {})
    with pytest.raises(InputError, match=r"no comparator for single_ended .* \(it has: differential\)"):
        alone.comparator("single_ended")
