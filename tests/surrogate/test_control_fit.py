"""Fits with control variates: smaller errors, which are what is stated, and whole batches held out."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_columns import COUNTS, column_reads, controlled_reads, truth

from cosim.surrogate import line_fit
from cosim.surrogate.estimates import LEAST_SIGMA_V, Estimates, Group
from cosim.surrogate.fit import fit_line
from cosim.surrogate.samples import held_out


@pytest.fixture(autouse=True)
def _few_bootstraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_fit, "BOOTSTRAPS", 40)


def test_controls_make_the_line_more_certain_and_say_so() -> None:
    """They tell 99 % of the variance: sigma's error is a tenth in each group, and so is what is stated of both curves.

    The curves' own misfit stays: the mean is within 0.3 mV, a tenth of the 3 mV of 48 plain samples at 32 rows.
    """
    line, plain, controlled = truth(), [], []
    for seed in range(6):
        plain.append(fit_line(column_reads(line, 48, seed), 64))
        controlled.append(fit_line(controlled_reads(48, seed), 64))
    for name, least in (("mean", 3.0), ("sigma", 3.0)):
        errors = [
            np.sqrt(np.mean([(getattr(f, f"{name}_v") - getattr(line, f"{name}_v"))[4:] ** 2 for f in found]))
            for found in (plain, controlled)
        ]
        stated = [np.mean([getattr(f, f"{name}_error_v")[4:] for f in found]) for found in (plain, controlled)]
        assert errors[0] / errors[1] > least
        assert stated[0] / stated[1] > least
        # At the simulated counts: a spline's misfit between them shows in no sample.
        at = list(COUNTS[3:])
        error = [(getattr(f, f"{name}_v") - getattr(line, f"{name}_v"))[at] for f in controlled]
        z = [each / getattr(f, f"{name}_error_v")[at] for each, f in zip(error, controlled, strict=True)]
        assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.5


def test_a_batch_is_held_out_as_a_whole() -> None:
    reads = controlled_reads(64, 0)
    kept = held_out(reads)
    assert kept.mean() == 0.25
    assert reads.batch is not None
    np.testing.assert_array_equal(kept, reads.batch % 4 == 3)
    independent = held_out(column_reads(truth(), 64, 0))
    np.testing.assert_array_equal(independent, reads.sample % 4 == 3)


def test_a_perturbed_estimate_scatters_as_its_errors_say() -> None:
    """2000 perturbations: standard deviations within five of their own errors, 1 / sqrt(4000)."""
    generator = np.random.default_rng(0)
    found = Estimates.of([Group(generator.standard_normal(40)), Group(np.full(20, 0.5))])
    again = [found.perturbed(generator) for _ in range(2000)]
    mean, variance, skew = (np.array([getattr(e, name) for e in again]) for name in ("mean_v", "variance", "skew"))
    within = 5 / np.sqrt(4000)
    assert mean[:, 0].std() == pytest.approx(found.mean_error_v[0], rel=within)
    assert variance[:, 0].mean() == pytest.approx(found.variance[0], rel=within)
    assert variance[:, 0].std() == pytest.approx(found.variance[0] * np.sqrt(2 / found.freedom[0]), rel=2 * within)
    assert skew[:, 0].std() == pytest.approx(found.skew_error[0], rel=within)
    # No spread: the simulator's tolerance, which is not uncertain.
    assert (mean[:, 1] == 0.5).all()
    assert (variance[:, 1] == LEAST_SIGMA_V**2).all()
    assert (skew[:, 1] == 0).all()


def test_a_curve_of_the_wrong_form_states_a_larger_error() -> None:
    """A mean with a step that no spline of five intervals follows: what is left over widens the error."""
    reads = controlled_reads(64, 0, rest=0.02)
    step = 5e-3 * ((reads.n_minus == 24) | (reads.n_minus == 40))
    from dataclasses import replace

    right, wrong = fit_line(reads, 64), fit_line(replace(reads, bl_v=reads.bl_v + step), 64)
    assert (wrong.mean_error_v[8:57] > 3 * right.mean_error_v[8:57]).all()
