"""Uniformity and independence by chi-square; seeds are fixed, false-alarm rate 1e-4 each had they been drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from cosim.errors import InputError
from cosim.network.counter import column_words, image_keys, read_keys

FALSE_ALARM = 1e-4


def words(seed: int = 1, layer: int = 0, images: int = 64, reads: int = 16, columns: int = 512) -> np.ndarray:
    """The hashes of all partial sums, (image, read, column)."""
    keys = image_keys(seed, layer, np.arange(images, dtype=np.uint64))
    return column_words(read_keys(keys, np.arange(reads, dtype=np.uint64)), columns)


def assert_uniform(cells: np.ndarray, n_cells: int):
    observed = np.bincount(cells.ravel().astype(np.int64), minlength=n_cells)
    expected = cells.size / n_cells
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert chi2.ppf(FALSE_ALARM / 2, n_cells - 1) < statistic < chi2.isf(FALSE_ALARM / 2, n_cells - 1)


def top(values: np.ndarray, bits: int) -> np.ndarray:
    return values >> np.uint32(32 - bits)


@pytest.mark.parametrize("start", [0, 3, 8, 13, 19, 24])
def test_bits_that_are_used_are_uniform(start: int):
    assert_uniform(top(words() << np.uint32(start), 8), 256)


@pytest.mark.parametrize(
    ("first", "second", "bits"),
    [
        pytest.param(words()[..., :-1], words()[..., 1:], 4, id="neighbouring columns"),
        pytest.param(words()[..., :-2], words()[..., 2:], 4, id="columns two apart"),
        pytest.param(words()[..., :-64], words()[..., 64:], 4, id="columns 64 apart"),
        pytest.param(words()[:, :-1], words()[:, 1:], 4, id="neighbouring reads"),
        pytest.param(words()[:-1], words()[1:], 4, id="neighbouring images"),
        pytest.param(words(seed=1), words(seed=2), 4, id="neighbouring seeds"),
        pytest.param(words(layer=0), words(layer=1), 4, id="neighbouring layers"),
        pytest.param(words(seed=2, layer=1), words(seed=1, layer=2), 4, id="seed and layer exchanged"),
        pytest.param(words(), words() << np.uint32(3), 3, id="slot and fraction of one draw"),
        pytest.param(words(), words() << np.uint32(16), 4, id="both halves of a word"),
        pytest.param(words()[..., :-1] << np.uint32(16), words()[..., 1:], 4, id="halves of neighbouring words"),
        pytest.param(words()[:, :-1] << np.uint32(16), words()[:, 1:] << np.uint32(16), 4, id="lower halves of reads"),
    ],
)
def test_pairs_are_independent(first: np.ndarray, second: np.ndarray, bits: int):
    assert_uniform(top(first, bits) << np.uint32(bits) | top(second, bits), 4**bits)


def test_sums_over_columns_and_reads_spread_as_those_of_independent_draws():
    """A weak hash of a counter shows in sums: their variance, in units of what independence gives."""
    uniform = words(images=400, reads=64, columns=128) / 2.0**32 - 0.5
    for axis in (1, 2):
        sums = uniform.sum(axis=axis) / np.sqrt(uniform.shape[axis] / 12)
        freedom = sums.size
        statistic = float((sums**2).sum())
        assert chi2.ppf(FALSE_ALARM / 2, freedom) < statistic < chi2.isf(FALSE_ALARM / 2, freedom)


def test_keys_of_images_layers_and_seeds_all_differ():
    numbers = np.arange(20_000, dtype=np.uint64)
    keys = [image_keys(seed, layer, numbers) for seed in (0, 1, 2**64 - 1) for layer in range(3)]
    assert len(np.unique(keys)) == 9 * 20_000


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int):
    with pytest.raises(InputError, match="seed must be"):
        image_keys(seed, 0, np.zeros(1, np.uint64))
