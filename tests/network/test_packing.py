from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cosim.network.packing import (
    pack_bits,
    pack_signs,
    padding_is_clear,
    unpack_bits,
    unpack_signs,
    words_for,
)


@given(st.integers(1, 200), st.integers(0, 5), st.integers(0, 2**32))
def test_unpacking_undoes_packing(features: int, rows: int, seed: int):
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (rows, features))
    words = pack_signs(signs)
    assert words.shape == (rows, words_for(features))
    assert words.dtype == np.uint64
    np.testing.assert_array_equal(unpack_signs(words, features), signs)
    assert padding_is_clear(words, features)


def test_first_feature_is_the_lowest_bit_of_the_first_word():
    bits = np.zeros(130, np.bool_)
    bits[[0, 63, 64, 129]] = True
    assert pack_bits(bits).tolist() == [1 | 1 << 63, 1, 2]


def test_a_set_padding_bit_is_seen():
    assert not padding_is_clear(np.array([[0, 1 << 6]], np.uint64), 70)
    assert padding_is_clear(np.array([[0, 1 << 5]], np.uint64), 70)


def test_batches_of_any_shape():
    bits = np.random.default_rng(0).random((2, 3, 65)) < 0.5
    np.testing.assert_array_equal(unpack_bits(pack_bits(bits), 65), bits)
