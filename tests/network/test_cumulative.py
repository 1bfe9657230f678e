"""Sampling by comparison: the stated bound, the counts that a register does not hold, and both kernels alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_convolutions import random_conv_network
from random_networks import random_images, random_readouts
from scipy.stats import chi2

from cosim.network import read_tables, reference
from cosim.network.cumulative import DRAW_MAX, cumulative_thresholds, draws
from cosim.network.inference import forward
from cosim.network.layers import Affine, DenseLayer, Network
from cosim.network.packing import pack_signs
from cosim.network.threshold_kernels import can_be_wide

FALSE_ALARM = 1e-4
ALL_DRAWS = np.minimum(np.arange(2**16), DRAW_MAX)


@given(st.integers(1, 8), st.integers(0, 2**32), st.sampled_from([0.02, 1.0, 30.0]))
def test_thresholds_stand_for_the_probabilities(codes: int, seed: int, concentration: float):
    """Over all draws: within 2**-15, and exact where a code is certain or impossible."""
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(codes, concentration), 5)
    probability[:, rng.integers(0, codes)] += 1e-12
    probability[rng.random(probability.shape) < 0.3] = 0
    probability[probability.sum(axis=1) == 0, 0] = 1
    probability /= probability.sum(axis=1, keepdims=True)
    for row, thresholds in zip(probability, cumulative_thresholds(probability), strict=True):
        drawn = np.bincount((ALL_DRAWS[:, None] >= thresholds).sum(axis=1), minlength=8) / 2**16
        assert np.abs(drawn[:codes] - row).max() <= 2.0**-15
        assert np.abs(drawn[:codes].cumsum() - row.cumsum()).max() <= 2.0**-16 + 1e-12
        assert np.all(drawn[:codes][row == 0] == 0)
        assert drawn[codes:].sum() == 0
        if row.max() == 1:
            assert drawn.max() == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([64, 64, 50, 9]))
def test_both_kernels_give_the_same_bits(seed: int, codes: int, rows: int):
    rng = np.random.default_rng(seed)
    network = random_conv_network(rng, most=90)
    images = random_images(3, network, rng)
    readouts = random_readouts(network, rng, codes, rows)
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for wide in {can_be_wide(), False}:
            patch.setattr(read_tables, "can_be_wide", lambda wide=wide: wide)
            found.append(forward(network, images, mode="iid", readouts=readouts, rows=rows, seed=seed))
    np.testing.assert_array_equal(found[0].view(np.uint32), found[-1].view(np.uint32))
    np.testing.assert_array_equal(found[0], reference.trace(network, images, "iid", readouts, rows=rows, seed=seed)[0])


def test_all_counts_of_a_full_sub_array_are_drawn_from_their_own_row():
    """Chi-square for each of the counts 0 to 64: the last lies in no register of 64 counts."""
    rng = np.random.default_rng(0)
    counts = np.tile(np.arange(65), 4)
    weights = np.where(np.arange(64) < counts[:, None], -1, 1).astype(np.int8)
    affine = Affine(np.ones(260, "f4"), np.zeros(260, "f4"))
    network = Network("n", (DenseLayer("a", "binary", 64, pack_signs(weights), affine),), 260, (64,), {}, 1)
    tables = random_readouts(network, rng)
    probability = tables["a"][64].probability
    tables["a"][64].centroid[:] = np.arange(8) << tables["a"][64].fraction_bits
    codes = forward(network, np.full((1000, 64), 255, np.uint8), mode="iid", readouts=tables).astype(int)
    for count in range(65):
        observed = np.bincount(codes[:, counts == count].ravel(), minlength=8)
        row = probability[count]
        assert observed[row == 0].sum() == 0
        likely = row * 4000 >= 5
        expected = np.append(row[likely], row[~likely].sum()) * 4000 + 1e-9
        seen = np.append(observed[likely], observed[~likely].sum())
        assert ((seen - expected) ** 2 / expected).sum() < chi2.isf(FALSE_ALARM / 65, int(likely.sum()))


def test_two_draws_share_a_word():
    assert draws(np.array([0x00021234, 0xFFFFFFFF], np.uint32), 3).tolist() == [0x1234, 2, 65534]
