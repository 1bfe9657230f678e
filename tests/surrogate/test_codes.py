"""P(code | count) against enumeration, against limits, and against a simulation that knows no formulas."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm, pearson3
from synthetic_columns import comparators, draw, true_surrogate

from cosim.errors import InputError
from cosim.surrogate import codes
from cosim.surrogate.codes import code_probabilities, nominal_codes, poisson_binomial
from cosim.surrogate.model import Sensing, Surrogate

# Between the means of whole counts, never at one.
SINGLE = np.array([0.613, 0.643, 0.683, 0.737, 0.797, 0.873, 0.953])
DIFFERENCE = np.array([-0.31, -0.2, -0.083, 0.003, 0.081, 0.207, 0.3])
REFERENCES: dict[Sensing, np.ndarray] = {"single_ended": SINGLE, "differential": DIFFERENCE}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=0, max_size=6))
def test_poisson_binomial_is_the_sum_over_all_outcomes(probability: list[float]) -> None:
    expected = np.zeros(len(probability) + 1)
    for outcome in product((0, 1), repeat=len(probability)):
        expected[sum(outcome)] += np.prod([p if hit else 1 - p for p, hit in zip(probability, outcome, strict=True)])
    np.testing.assert_allclose(poisson_binomial(np.array(probability)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("sensing", "n_active"),
    [*(("single_ended", n) for n in (64, 63, 16, 1)), *(("differential", n) for n in (64, 63, 48))],
)
def test_every_row_is_a_distribution(sensing: Sensing, n_active: int) -> None:
    found = code_probabilities(true_surrogate(), sensing, n_active, REFERENCES[sensing])
    assert found.shape == (n_active + 1, 8)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_more_rows_on_the_line_never_raise_the_mean_code(sensing: Sensing) -> None:
    found = code_probabilities(true_surrogate(), sensing, 64, REFERENCES[sensing]) @ np.arange(8)
    assert (np.diff(found) < 0).all()


def quiet(surrogate: Surrogate, sigma_v: float) -> Surrogate:
    """The same means with next to no variation; log(sigma) is interpolated, so it may be tiny and not zero."""
    line = replace(surrogate.line, sigma_v=np.full(65, sigma_v), skew=np.zeros(65))
    models = {
        sensing: replace(model, offset_mean_v=0 * model.level_v, offset_sigma_v=np.full(model.level_v.size, sigma_v))
        for sensing, model in surrogate.comparators.items()
    }
    return Surrogate(line, models, {}, {})


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
@pytest.mark.parametrize("sigma_v", [1e-6, 1e-9, 1e-12])
def test_without_variation_the_code_is_the_nominal_one(sensing: Sensing, sigma_v: float) -> None:
    surrogate, reference_v = true_surrogate(), REFERENCES[sensing]
    nominal = nominal_codes(surrogate, sensing, 64, reference_v)
    np.testing.assert_allclose(
        code_probabilities(quiet(surrogate, sigma_v), sensing, 64, reference_v), np.eye(8)[nominal], atol=1e-12
    )


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_nominal_codes_fall_with_the_count_and_use_every_level(sensing: Sensing) -> None:
    found = nominal_codes(true_surrogate(), sensing, 64, REFERENCES[sensing])
    assert (np.diff(found) <= 0).all()
    assert set(found) == set(range(8))


@pytest.mark.parametrize("sensing", ["single_ended", "differential"])
def test_a_simulation_gives_the_same_codes(sensing: Sensing) -> None:
    """40,000 reads at each of five counts: draw the lines and every comparator, compare, count. Chi-square over codes
    that are expected at least 10 times; the smallest of ten p-values is below 1e-4 once in 1000 seeds."""
    surrogate, reference_v, reads = true_surrogate(), REFERENCES[sensing], 40_000
    expected = code_probabilities(surrogate, sensing, 64, reference_v)
    generator = np.random.default_rng(7)
    model = surrogate.comparators[sensing].at(reference_v)
    for n_minus in (0, 3, 20, 41, 64):
        volts = draw(surrogate.line, n_minus, reads, generator)
        if sensing == "differential":
            volts = volts - draw(surrogate.line, 64 - n_minus, reads, generator)
        offsets = generator.normal(model.mean_v, model.sigma_v, (reads, reference_v.size))
        code = (volts[:, None] - reference_v - offsets > 0).sum(axis=1)
        seen, wanted = np.bincount(code, minlength=8), expected[n_minus] * reads
        often = wanted >= 10
        assert (seen[~often] <= wanted[~often] + 5 * np.sqrt(wanted[~often]) + 1).all()
        if often.sum() > 1:
            scaled = wanted[often] * seen[often].sum() / wanted[often].sum()
            assert chisquare(seen[often], scaled).pvalue > 1e-4, n_minus


def test_the_skew_is_in_the_tails() -> None:
    """Comparators sharper than the line: P(code) is Pearson III's own distribution function, not the Gaussian's."""
    surrogate = quiet(true_surrogate(), 1e-4)
    skewed = replace(surrogate, line=replace(surrogate.line, sigma_v=np.full(65, 0.01), skew=np.full(65, -1.0)))
    mean_v = surrogate.line.mean_v[20]
    reference_v = mean_v + np.array([-0.03, -0.01, 0.01])
    found = code_probabilities(skewed, "single_ended", 64, reference_v)[20]
    expected = np.diff(pearson3.cdf([-np.inf, -3, -1, 1, np.inf], -1.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.abs(expected - np.diff(norm.cdf([-np.inf, -3, -1, 1, np.inf]))).max() > 0.01


@pytest.mark.parametrize("skew", [-1.0, 0.7])
def test_the_offsets_are_skewed(skew: float) -> None:
    """A line without spread: each comparator's own distribution function, and they are independent."""
    surrogate = quiet(true_surrogate(), 1e-9)
    model = replace(comparators(10e-3, skew)["single_ended"], offset_mean_v=np.full(6, 2e-3))
    surrogate = replace(surrogate, comparators={"single_ended": model})
    reference_v = surrogate.line.mean_v[20] + np.array([-0.025, 0.01])
    found = code_probabilities(surrogate, "single_ended", 64, reference_v)[20]
    sigma_v = model.at(reference_v).sigma_v
    fires = pearson3.cdf((surrogate.line.mean_v[20] - reference_v - 2e-3) / sigma_v, skew)
    np.testing.assert_allclose(found, poisson_binomial(fires), rtol=0, atol=1e-6)
    gaussian = poisson_binomial(norm.cdf((surrogate.line.mean_v[20] - reference_v - 2e-3) / sigma_v))
    assert np.abs(found - gaussian).max() > 0.01


def test_differential_sensing_of_few_rows_is_refused() -> None:
    """47 of 64: the lines stay higher than where the offsets were measured."""
    said = "differential sensing with 47 active rows, expected at least 48 of 64: .*single_ended"
    for function in (code_probabilities, nominal_codes):
        with pytest.raises(InputError, match=said):
            function(true_surrogate(), "differential", 47, DIFFERENCE)
        function(true_surrogate(), "differential", 48, DIFFERENCE)
        function(true_surrogate(), "single_ended", 1, SINGLE)


@pytest.mark.parametrize(("sigma_v", "bound"), [(15e-3, 1e-5), (1e-3, 1e-5), (1e-4, 1e-4)])
def test_a_finer_integral_changes_nothing(sigma_v: float, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times finer; only comparators that are sharper than a step of the grid would see the difference."""
    surrogate = true_surrogate(sigma_v=sigma_v)
    coarse = {s: code_probabilities(surrogate, s, 64, REFERENCES[s]) for s in REFERENCES}
    monkeypatch.setattr(codes, "_Z", np.linspace(-8, 8, 8 * 640 + 1))
    for sensing, reference_v in REFERENCES.items():
        found = code_probabilities(surrogate, sensing, 64, reference_v)
        assert np.abs(found - coarse[sensing]).max() < bound


def test_a_reference_beyond_the_measured_levels_is_refused() -> None:
    with pytest.raises(InputError, match="was measured from"):
        code_probabilities(true_surrogate(), "single_ended", 64, np.array([0.1, 0.5]))
    with pytest.raises(InputError, match="more than 64 rows on"):
        code_probabilities(true_surrogate(), "differential", 65, DIFFERENCE)
