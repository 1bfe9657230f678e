"""Point sets are even, unbiased and a function of their batch alone; controls are of mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from cosim.campaign.design import Method, canonical_order, generator_of, point_set, standard_shifts
from cosim.campaign.points import ColumnPoint, ComparatorPoint, key_of, points_of
from cosim.campaign.recipe import load_campaign
from cosim.errors import InputError

EVEN: tuple[Method, ...] = ("latin", "sobol")
WHO = ("column", 8, 4, 4)


def column_of(recipe: Path, n_minus: int = 4) -> ColumnPoint:
    points = points_of(load_campaign(recipe))
    return next(p for p in points if isinstance(p, ColumnPoint) and p.n_minus == n_minus)


@pytest.mark.parametrize("method", EVEN)
@pytest.mark.parametrize("size", [16, 256])
def test_each_dimension_has_one_point_a_stratum(method: Method, size: int) -> None:
    points = point_set(method, size, 40, np.random.default_rng(1))
    strata = np.sort(np.floor(ndtr(points) * size).astype(int), axis=0)
    assert (strata == np.arange(size)[:, None]).all()


@pytest.mark.parametrize("method", ["random", *EVEN])
def test_every_sample_alone_is_standard_normal_and_of_independent_numbers(method: Method) -> None:
    """2000 first samples of batches of 16 in 6 dimensions: moments within five standard errors."""
    first = np.array([standard_shifts(method, 1, WHO, 16 * batch, 16, 6) for batch in range(2000)])
    assert (np.abs(first.mean(axis=0)) < 5 / np.sqrt(2000)).all()
    correlation = first.T @ first / 2000 - np.eye(6)
    assert (np.abs(correlation) < 5 * np.sqrt((1 + np.eye(6)) / 2000)).all()
    assert (np.abs(np.mean(first**4, axis=0) - 3) < 5 * np.sqrt(96 / 2000)).all()


@pytest.mark.parametrize("method", EVEN)
def test_a_sample_is_a_function_of_its_batch_alone(method: Method) -> None:
    whole = point_set(method, 16, 10, generator_of(3, WHO, 7, 1))
    for sample in (5, 15, 0):
        np.testing.assert_array_equal(standard_shifts(method, 3, WHO, 7 * 16 + sample, 16, 10), whole[sample])
    others = [
        standard_shifts(method, 4, WHO, 112, 16, 10),
        standard_shifts(method, 3, ("column", 8, 5, 3), 112, 16, 10),
        standard_shifts(method, 3, WHO, 112 + 16, 16, 10),
        standard_shifts(method, 3, WHO, 112, 8, 10),
    ]
    assert not np.isin(whole[0], np.concatenate(others)).any()


@pytest.mark.parametrize(("method", "first"), [("latin", 0.8090399), ("sobol", 0.2005038)])
def test_point_sets_are_those_of_the_first_release(method: Method, first: float) -> None:
    """Golden: shards stay valid as long as this holds; else raise `points.FORMAT`."""
    assert standard_shifts(method, 1, ("column", 64, 16, 48), 5, 16, 512)[0] == pytest.approx(first, abs=1e-7)


def test_dimensions_beyond_sobol_s_are_refused() -> None:
    with pytest.raises(InputError, match=r"21202 devices .* expected at most 21201"):
        point_set("sobol", 16, 21202, np.random.default_rng(0))


def test_rows_that_do_the_same_have_the_same_dimensions(tiny_recipe: Callable[..., Path]) -> None:
    """Row orders and weights are those of independent draws; sorted by what the rows do, each place is stratified."""
    random = column_of(tiny_recipe())
    even = replace(random, method="latin", batch=16)
    draws, plain = even.draws(3, 0, 16), random.draws(3, 0, 16)
    np.testing.assert_array_equal(draws.products, plain.products)
    np.testing.assert_array_equal(draws.weights, plain.weights)
    order = np.array([canonical_order(*each) for each in zip(draws.products, draws.weights, strict=True)])
    sigmas = even.bench.cell.vth_sigmas(even.bench.process)
    sorted_ = np.take_along_axis(draws.vth_shift_v / sigmas, order[:, :, None], axis=1)
    strata = np.sort(np.floor(ndtr(sorted_) * 16).astype(int), axis=0)
    assert (strata == np.arange(16)[:, None, None]).all()
    assert (np.diff(np.take_along_axis(draws.products, order, axis=1)) >= 0).all()


@pytest.mark.parametrize("cell", ["xnor_8t", "hbnn_6t"])
def test_controls_have_mean_0_and_variance_1_and_are_uncorrelated(cell: str, tiny_recipe: Callable[..., Path]) -> None:
    """2000 independent draws: within five standard errors; the variance's counts for the random number of rows."""
    point = column_of(tiny_recipe(cell=f'"{cell}"'))
    controls = point.controls(point.draws(1, 0, 2000))
    assert controls.shape == (2, 2000, 2 * len(point.bench.cell.devices))
    for line in controls:
        used = line.any(axis=0)
        # The 6T cell pulls a line with one weight only, the 8T cell with both.
        assert used.sum() == (line.shape[1] if cell == "xnor_8t" else line.shape[1] // 2)
        moment = line[:, used].T @ line[:, used] / 2000 - np.eye(int(used.sum()))
        assert np.abs(moment).max() < 5 * np.sqrt(3 / 2000)
        assert np.abs(line.mean(axis=0)).max() < 5 / np.sqrt(2000)


def test_a_control_is_the_sum_over_the_rows_that_pull(tiny_recipe: Callable[..., Path]) -> None:
    point = replace(column_of(tiny_recipe(), 2), n_plus=3)
    draws = point.draws(3, 4, 5)
    controls = point.controls(draws)
    standard = draws.vth_shift_v[0] / point.bench.cell.vth_sigmas(point.bench.process)
    for line, (product, pulling) in enumerate(((-1, 2), (1, 3))):
        for place, weight in enumerate((-1, 1)):
            rows = (draws.products[0] == product) & (draws.weights[0] == weight)
            found = controls[line, 0].reshape(2, -1)[place] * np.sqrt(pulling / 2)
            np.testing.assert_allclose(found, standard[rows].sum(axis=0), atol=1e-12)


def test_a_key_tells_how_its_samples_are_drawn(tiny_recipe: Callable[..., Path]) -> None:
    """Independent draws are what they were before there was a choice, in key and number."""

    def keys(name: str, sampling: str) -> list[str]:
        path = tiny_recipe(name=name, comparator=True)
        path.write_text(path.read_text() + sampling)
        return [key_of(point, 3, "shared", "39") for point in points_of(load_campaign(path))]

    plain = keys("plain", "")
    assert (
        keys(
            "random",
            '[sampling]\nmethod = "random"\nstandard_error_v = 0.001\n'.replace("standard_error_v = 0.001\n", ""),
        )
        == plain
    )
    latin, sobol = keys("latin", '[sampling]\nmethod = "latin"\n'), keys("sobol", '[sampling]\nmethod = "sobol"\n')
    assert len({*plain, *latin, *sobol}) == 3 * len(plain)


def test_offsets_are_drawn_from_point_sets_too(tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(comparator=True)
    path.write_text(path.read_text() + '[sampling]\nmethod = "sobol"\n')
    point = next(p for p in points_of(load_campaign(path)) if isinstance(p, ComparatorPoint))
    assert point.batch == 4, "16 samples are four batches"
    point = replace(point, batch=16)
    drawn = np.array([point.controls(3, sample) for sample in range(16)])
    assert (np.sort(np.floor(ndtr(drawn) * 16).astype(int), axis=0) == np.arange(16)[:, None]).all()
    sigmas = point.bench.amplifier.vth_sigmas(point.bench.process)
    np.testing.assert_allclose(point.draw(3, 5), drawn[5] * sigmas)
