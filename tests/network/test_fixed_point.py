"""Thresholds at a binary point: nearest to the batch norm's zero, and unchanged for integer sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.network.fixed_point import fixed_point
from cosim.network.layers import BatchNorm, Threshold

REACH = 40


def norm(gamma: float, beta: float, mean: float) -> BatchNorm:
    return BatchNorm(*(np.array([v], np.float32) for v in (gamma, beta, mean, 9.0)), epsilon=1e-5)


def folded(batch_norm: BatchNorm) -> Threshold:
    """The integer rule, by trying every sum."""
    sums = np.arange(-REACH, REACH + 1, dtype=np.float32)
    scale = batch_norm.gamma / np.sqrt(batch_norm.variance + np.float32(batch_norm.epsilon))
    on = (sums - batch_norm.mean) * scale + batch_norm.beta >= 0
    if on.all() or not on.any():
        value, direction = (0, 0) if on.all() else (REACH + 1, 1)
    else:
        value, direction = (sums[on].min(), 1) if on[-1] else (sums[on].max(), -1)
    return Threshold(np.array([value], np.int32), np.array([direction], np.int8))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([-2.0, -0.25, 0.0, 1e-20, 0.5, 3.0]), st.floats(-9, 9, width=32), st.floats(-60, 60, width=32),
    st.integers(0, 8),
)  # fmt: skip
def test_integer_sums_decide_as_before(gamma: float, beta: float, mean: float, bits: int) -> None:
    batch_norm = norm(gamma, beta, mean)
    threshold = folded(batch_norm)
    direction, value = int(threshold.direction[0]), int(threshold.value[0])
    fixed = int(fixed_point(threshold, batch_norm, bits)[0])
    sums = np.arange(-REACH, REACH + 1)
    np.testing.assert_array_equal(
        direction * (sums << bits) >= direction * fixed, direction * sums >= direction * value
    )


@pytest.mark.parametrize("gamma", [1.0, -1.0])
def test_fractional_sums_meet_the_zero_itself(gamma: float) -> None:
    batch_norm = norm(gamma, 0.0, 7.3)
    fixed = int(fixed_point(folded(batch_norm), batch_norm, 8)[0])
    assert abs(fixed / 256 - np.float32(7.3)) <= 1 / 256
