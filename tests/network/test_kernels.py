"""The compiled kernels against their NumPy twins, and against plain arithmetic."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_images, random_network, random_readouts

from cosim import compiling
from cosim.network import inference, reference
from cosim.network.program import MODES, Mode

ROWS = st.sampled_from([64, 64, 32, 13, 1, 65, 128, 200, 256])
SIZES = st.lists(st.integers(1, 150), min_size=2, max_size=5)


@settings(deadline=None, max_examples=60)
@given(
    SIZES,
    st.sampled_from(MODES),
    st.integers(2, 70),
    ROWS,
    st.integers(0, 2**32),
)
def test_kernels_equal_their_twins(sizes: list[int], mode: Mode, codes: int, rows: int, seed: int):
    rng = np.random.default_rng(seed)
    network = random_network(sizes, rng)
    images = random_images(5, network, rng)
    options = {
        "mode": mode,
        "readouts": random_readouts(network, rng, codes, rows),
        "seed": seed,
        "first_image": int(rng.integers(0, 2**40)),
        "rows": rows,
    }
    slow_logits, slow = reference.trace(network, images, **options)
    fast = inference.trace(network, images, **options)
    for expected, got in zip(slow, fast, strict=True):
        np.testing.assert_array_equal(got.sums, expected.sums)
        assert got.fraction_bits == expected.fraction_bits
        assert (got.signs is None) == (expected.signs is None)
        if got.signs is not None:
            np.testing.assert_array_equal(got.signs, expected.signs)
    np.testing.assert_array_equal(inference.forward(network, images, **options), slow_logits)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(0, 2**32), st.sampled_from([64, 50, 256]))
def test_ideal_is_the_digital_network(sizes: list[int], seed: int, rows: int):
    """Integer matrix products and comparisons written out here, sharing nothing with the library but weights."""
    rng = np.random.default_rng(seed)
    network = random_network(sizes, rng)
    images = random_images(7, network, rng)
    values = images.astype(np.int64)
    for layer in network.layers[:-1]:
        sums = values @ layer.weights.astype(np.int64).T
        sign = layer.output.direction.astype(np.int64)
        values = np.where(sign * sums >= sign * layer.output.value, 1, -1)
    last = network.layers[-1]
    sums = (values @ last.weights.astype(np.int64).T).astype(np.float32)
    logits = np.add(np.multiply(sums, last.output.scale), last.output.offset)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(inference.forward(network, images, mode="ideal", rows=rows), logits)


def test_the_largest_pixel_sums_are_exact():
    network = random_network((4096, 33, 2), np.random.default_rng(0))
    images = np.full((2, 4096), 255, np.uint8)
    images[1, ::2] = 254
    sums = inference.trace(network, images, mode="ideal")[0].sums
    np.testing.assert_array_equal(sums, images.astype(np.int64) @ network.layers[0].weights.astype(np.int64).T)


def test_pixels_of_a_single_bit_count():
    """Words of 64 pixels without any bit are skipped; one bit plane alone must not be."""
    network = random_network((130, 20, 2), np.random.default_rng(0))
    images = np.repeat(1 << np.arange(8, dtype=np.uint8)[:, None], 130, axis=1)
    images[:, :64] = 0
    sums = inference.trace(network, images, mode="ideal")[0].sums
    np.testing.assert_array_equal(sums, images.astype(np.int64) @ network.layers[0].weights.astype(np.int64).T)


def test_kernels_work_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch):
    """numba raises RuntimeError at the decorator when it finds no folder for its cache."""
    real = numba.njit

    def without_cache(**options: object):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", without_cache)

    def double(value: int) -> int:
        return 2 * value

    assert compiling.compiled(double)(21) == 42
