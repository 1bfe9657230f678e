"""A sample's draw belongs to the sample: to the seed, its point and its index, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosim.campaign.collect import plan
from cosim.campaign.points import ColumnPoint, ComparatorPoint, generator_of, key_of, points_of
from cosim.campaign.recipe import Campaign, load_campaign


@pytest.fixture
def campaign(tiny_recipe: Callable[..., Path]) -> Campaign:
    return load_campaign(tiny_recipe(comparator=True))


def column(campaign: Campaign, n_minus: int) -> ColumnPoint:
    return next(p for p in points_of(campaign) if isinstance(p, ColumnPoint) and p.n_minus == n_minus)


def test_every_point_is_there(campaign: Campaign) -> None:
    points = points_of(campaign)
    counts = [(p.n_minus, p.n_plus) for p in points if isinstance(p, ColumnPoint)]
    assert counts == [(0, 8), (1, 7), (2, 6), (4, 4), (6, 2), (8, 0)]
    assert [p.level_v for p in points if isinstance(p, ComparatorPoint)] == [0.7, 0.9]
    tasks = plan(campaign, "39")
    assert sum(task.stop - task.start for task in tasks) == 8 * 16
    assert plan(campaign, "39") == tasks


def test_a_draw_has_the_counts_of_its_point(campaign: Campaign) -> None:
    for point in points_of(campaign):
        if isinstance(point, ColumnPoint):
            for sample in range(20):
                draw = point.draw(3, sample)
                assert (draw.products == -1).sum() == point.n_minus
                assert (draw.products == 1).sum() == point.n_plus
                assert set(draw.weights) <= {-1, 1}


def test_rows_and_weights_are_shuffled(campaign: Campaign) -> None:
    """Each row pulls BL in half of the samples; 400 fair tosses stray by 80 (eight sigma) once in 1e15."""
    point = column(campaign, 4)
    draws = [point.draw(3, sample) for sample in range(400)]
    for row in np.array([(d.products == -1) for d in draws]).sum(axis=0):
        assert abs(row - 200) < 80
    for row in np.array([(d.weights == 1) for d in draws]).sum(axis=0):
        assert abs(row - 200) < 80


def test_shifts_have_the_sigma_of_their_device(campaign: Campaign) -> None:
    """The sigma of 400 x 8 normal draws has a relative error of 1 / sqrt(6400) = 1.25 %; five of those."""
    point = column(campaign, 4)
    shifts = np.concatenate([point.draw(3, sample).vth_shift_v for sample in range(400)])
    expected = point.bench.cell.vth_sigmas(point.bench.process)
    np.testing.assert_allclose(shifts.std(axis=0), expected, rtol=0.0625)
    assert np.abs(shifts.mean(axis=0) / expected).max() < 5 / np.sqrt(3200)


def test_a_draw_does_not_depend_on_the_recipe_around_it(campaign: Campaign, tiny_recipe: Callable[..., Path]) -> None:
    other = load_campaign(tiny_recipe(name="other", n_minus="[8, 7, 6, 5, 4, 3]", samples="48", vdd_v="1.1"))
    for n_minus in (4, 6, 8):
        first, second = column(campaign, n_minus).draw(3, 11), column(other, n_minus).draw(3, 11)
        np.testing.assert_array_equal(first.products, second.products)
        np.testing.assert_array_equal(first.weights, second.weights)
        np.testing.assert_array_equal(first.vth_shift_v, second.vth_shift_v)


def test_seed_point_and_sample_each_change_the_draw(campaign: Campaign) -> None:
    base = column(campaign, 4).draw(3, 0).vth_shift_v
    for other in (
        column(campaign, 4).draw(4, 0),
        column(campaign, 4).draw(3, 1),
        column(campaign, 6).draw(3, 0),
    ):
        assert not np.isin(other.vth_shift_v, base).any()


def test_no_two_samples_share_a_stream() -> None:
    """Seeds, points and samples side by side: 64-bit first draws, all different."""
    points = [("column", 64, n, 64 - n) for n in range(65)] + [("comparator", "strongarm", 0.1 * n) for n in range(10)]
    first = {
        int(generator_of(seed, point, sample).integers(2**63))
        for seed in range(3)
        for point in points
        for sample in range(20)
    }
    assert len(first) == 3 * len(points) * 20


def test_draws_are_those_of_the_first_release() -> None:
    """Golden: shards of an earlier version stay valid as long as this holds; else raise `points.FORMAT`."""
    generator = generator_of(1, ("column", 64, 16, 48), 5)
    assert generator.integers(2**63) == 2215626129538580280


def test_the_key_is_of_all_that_a_sample_depends_on(campaign: Campaign, tiny_recipe: Callable[..., Path]) -> None:
    def keys(c: Campaign, version: str = "39", engine: str = "shared") -> list[str]:
        return [key_of(point, c.recipe.seed, engine, version) for point in points_of(c)]

    base = keys(campaign)
    assert len(set(base)) == len(base)
    assert keys(load_campaign(tiny_recipe(name="more", comparator=True, samples="64"))) == base
    for n, changes in enumerate(({"seed": "4"}, {"vdd_v": "1.05"}, {"temp_c": "85.0"})):
        other = keys(load_campaign(tiny_recipe(name=f"other{n}", comparator=True, **changes)))
        assert not set(other) & set(base), changes
    assert not set(keys(campaign, version="42")) & set(base)
    assert not set(keys(campaign, engine="batch")) & set(base)


def test_the_key_is_of_the_mismatch_too(campaign: Campaign) -> None:
    devices = {name: replace(d, a_vt_vm=1.01 * d.a_vt_vm) for name, d in campaign.process.devices.items()}
    worse = replace(campaign, process=replace(campaign.process, devices=devices))
    pairs = zip(points_of(campaign), points_of(worse), strict=True)
    assert all(key_of(a, 3, "shared", "39") != key_of(b, 3, "shared", "39") for a, b in pairs)


def test_a_cell_without_an_input_of_minus_one_draws_the_weight_that_makes_the_product(
    tiny_recipe: Callable[..., Path],
) -> None:
    point = column(load_campaign(tiny_recipe(cell='"hbnn_6t"')), 4)
    off = replace(point, n_plus=2)
    for sample in range(20):
        draw = point.draw(3, sample)
        np.testing.assert_array_equal(draw.weights, draw.products)
        spare = off.draw(3, sample)
        np.testing.assert_array_equal(spare.weights[spare.products != 0], spare.products[spare.products != 0])
        assert set(spare.weights) <= {-1, 1}
        assert off.deck(spare).text
    assert point.nominal_deck().text
