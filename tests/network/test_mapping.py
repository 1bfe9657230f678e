from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosim.errors import InputError
from cosim.network.mapping import map_inputs, to_arrays
from cosim.network.packing import pack_bits, unpack_bits


@given(st.integers(1, 600), st.integers(1, 256), st.integers(0, 2**32))
def test_every_input_has_one_row_and_left_over_rows_are_off(in_features: int, rows: int, seed: int):
    mapping = map_inputs(in_features, rows)
    assert mapping.n_active.sum() == in_features
    assert mapping.n_active.tolist() == [[sum(int(word).bit_count() for word in words) for words in mapping.active[0]]]
    assert set(mapping.kinds) == set(mapping.n_active[0].tolist())
    bits = np.random.default_rng(seed).random((2, in_features)) < 0.5
    laid_out = unpack_bits(to_arrays(pack_bits(bits), mapping), rows).reshape(2, -1)
    np.testing.assert_array_equal(laid_out[:, :in_features], bits)
    assert not laid_out[:, in_features:].any()


@pytest.mark.parametrize("rows", [0, -1, 257, 1000])
def test_rows_out_of_range_are_refused(rows: int):
    with pytest.raises(InputError, match="1 to 256"):
        map_inputs(10, rows)


def test_no_inputs_are_refused():
    with pytest.raises(InputError, match="in_features must be positive"):
        map_inputs(0)
