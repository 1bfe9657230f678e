from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cosim.network.alias import alias_entries, slot_bits


def drawn_probability(entries: np.ndarray, codes: int) -> list[Fraction]:
    """The exact probabilities of the centroids 0..codes-1 that one count's slots stand for."""
    shares = [Fraction(0)] * codes
    for entry in entries:
        threshold, own, other = int(entry) & 0xFFFFFFFF, int(entry) >> 32 & 0xFFFF, int(entry) >> 48
        shares[own] += Fraction(threshold, 2**32 * len(entries))
        shares[other] += Fraction(2**32 - threshold, 2**32 * len(entries))
    return shares


@given(st.integers(1, 70), st.integers(0, 2**32), st.sampled_from([0.02, 1.0, 30.0]))
def test_slots_stand_for_the_probabilities(codes: int, seed: int, concentration: float):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(codes, concentration), 3)
    entries = alias_entries(probability, np.arange(codes, dtype=np.int32), codes)
    for row, slots in zip(probability, entries, strict=True):
        shares = drawn_probability(slots, codes)
        assert sum(shares) == 1
        # One unit a code is cut off; the largest code takes what all others lost.
        worst = max(abs(float(share) - p) for share, p in zip(shares, row, strict=True))
        assert worst <= codes * 2.0 ** -(32 + slot_bits(codes)) + 1e-15


def test_a_certain_code_is_certain_and_an_impossible_one_impossible():
    probability = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    first, second = alias_entries(probability, np.arange(3, dtype=np.int32), 3)
    assert drawn_probability(first, 3) == [0, 1, 0]
    assert drawn_probability(second, 3) == [Fraction(1, 2), 0, Fraction(1, 2)]


def test_more_slots_than_codes_change_nothing():
    probability = np.array([[0.25, 0.75]])
    entries = alias_entries(probability, np.arange(2, dtype=np.int32), codes=9)
    assert entries.shape == (1, 16)
    assert drawn_probability(entries[0], 2) == [Fraction(1, 4), Fraction(3, 4)]


def test_negative_centroids_keep_their_sign():
    entries = alias_entries(np.array([[1.0]]), np.array([-16384], np.int32), 1)
    assert (entries >> np.uint64(48)).astype(np.uint16).view(np.int16).tolist() == [[-16384, -16384]]
