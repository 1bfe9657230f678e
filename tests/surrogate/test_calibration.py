"""Levels: the quantizer is the best there is, and its thresholds lie between counts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_columns import true_surrogate

from cosim.errors import InputError
from cosim.surrogate.calibration import calibrate, lloyd_max
from cosim.surrogate.codes import nominal_codes


def squared_error(weight: np.ndarray, value: np.ndarray, first: tuple[int, ...]) -> float:
    parts = np.split(np.arange(value.size), list(first))
    centers = [np.average(value[part], weights=weight[part]) for part in parts]
    return float(sum((weight[p] * (value[p] - c) ** 2).sum() for p, c in zip(parts, centers, strict=True)))


@settings(max_examples=150, deadline=None)
@given(
    weight=st.lists(st.integers(1, 1000), min_size=1, max_size=9),
    gaps=st.lists(st.integers(1, 20), min_size=9, max_size=9),
    levels=st.integers(1, 9),
)
def test_no_partition_is_better(weight: list[int], gaps: list[int], levels: int) -> None:
    weights, levels = np.array(weight, float), min(levels, len(weight))
    value = np.cumsum(gaps[: len(weight)]).astype(float)
    first, centroid = lloyd_max(weights, value, levels)
    assert centroid.size == levels
    assert first.size == levels - 1
    best = min(squared_error(weights, value, cut) for cut in combinations(range(1, len(weight)), levels - 1))
    assert squared_error(weights, value, tuple(first)) == pytest.approx(best, rel=1e-9, abs=1e-6)
    parts = np.split(np.arange(value.size), first)
    np.testing.assert_allclose(centroid, [np.average(value[p], weights=weights[p]) for p in parts])


def histogram(seed: int, n_active: int, spread: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    n_minus = np.clip(np.round(generator.normal(n_active / 2, spread, 5000)), 0, n_active).astype(int)
    return np.bincount(n_minus, minlength=n_active + 1)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.dictionaries(st.integers(0, 64), st.integers(1, 10_000), min_size=1, max_size=40),
    bits=st.integers(1, 4),
    sensing=st.sampled_from(["single_ended", "differential"]),
)
def test_thresholds_lie_between_the_counts_that_they_part(counts: dict[int, int], bits: int, sensing: str) -> None:
    seen = np.zeros(65, np.int64)
    seen[list(counts)] = list(counts.values())
    surrogate = true_surrogate()
    found = calibrate(surrogate, {("a", 64): seen}, sensing=sensing, bits=bits, provenance={})  # pyright: ignore
    levels = found.levels["a", 64]
    codes = min(2**bits, len(counts))
    assert levels.centroid_mac.size == codes
    assert levels.threshold_count.size == levels.reference_v.size == codes - 1
    assert (np.diff(levels.threshold_count) < 0).all()
    assert (np.diff(levels.reference_v) > 0).all()
    assert (np.diff(levels.centroid_mac) > 0).all()
    occurring = np.array(sorted(counts))
    for threshold in levels.threshold_count:
        assert np.abs(occurring - threshold).min() > 0.2, "clear of every count that occurs"
    # Every code is used by some count that occurs, and a nominal read puts each count into its own part.
    code = nominal_codes(surrogate, found.sensing, 64, levels.reference_v)[occurring]
    assert set(code) == set(range(codes))
    for level in range(codes):
        mine = occurring[code == level]
        assert np.average(64 - 2 * mine, weights=seen[mine]) == pytest.approx(levels.centroid_mac[level])


def test_three_bits_are_eight_codes_for_each_group() -> None:
    groups = {
        ("dense2", 64): histogram(1, 64, 8),
        ("dense2", 48): histogram(2, 48, 6),
        ("dense3", 64): histogram(3, 64, 5),
    }
    found = calibrate(true_surrogate(), groups, sensing="differential", bits=3, provenance={"network": "x"})
    assert set(found.levels) == set(groups)
    for (_, n_active), levels in found.levels.items():
        assert levels.centroid_mac.size == 8
        assert levels.histogram.size == n_active + 1
        assert (np.abs(levels.centroid_mac) <= n_active).all()


def test_a_group_of_few_rows_is_calibrated_single_ended_alone() -> None:
    groups = {("dense2", 64): histogram(1, 64, 8), ("dense2", 16): histogram(2, 16, 3)}
    with pytest.raises(InputError, match="differential sensing with 16 active rows, expected at least 48 of 64"):
        calibrate(true_surrogate(), groups, sensing="differential", bits=3, provenance={})
    assert set(calibrate(true_surrogate(), groups, sensing="single_ended", bits=3, provenance={}).levels) == set(groups)


def test_fewer_counts_than_codes_lose_nothing() -> None:
    seen = np.zeros(65, np.int64)
    seen[[10, 30, 50]] = 7
    levels = calibrate(true_surrogate(), {("a", 64): seen}, sensing="single_ended", bits=3, provenance={}).levels[
        "a", 64
    ]
    np.testing.assert_array_equal(levels.centroid_mac, [64 - 100, 64 - 60, 64 - 20])


@pytest.mark.parametrize("bits", [0, 7, -1])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match=rf"bits = {bits}, expected 1 to 6"):
        calibrate(true_surrogate(), {("a", 64): histogram(1, 64, 8)}, sensing="differential", bits=bits, provenance={})


def test_an_empty_histogram_is_refused() -> None:
    with pytest.raises(InputError, match="empty histogram"):
        calibrate(true_surrogate(), {("a", 64): np.zeros(65, np.int64)}, sensing="differential", bits=3, provenance={})


def test_more_active_rows_than_the_column_has_are_refused() -> None:
    with pytest.raises(InputError, match="more than 64 rows on"):
        calibrate(true_surrogate(), {("a", 128): histogram(1, 128, 20)}, sensing="differential", bits=3, provenance={})
