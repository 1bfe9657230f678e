from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_convolutions import one_convolution as conv
from random_convolutions import random_conv_network

from cosim.errors import InputError
from cosim.network import reference
from cosim.network.inference import partial_sums_per_image
from cosim.network.layers import Window
from cosim.network.layout import lay_out, map_network
from cosim.network.mapping import ORDERS, Order, map_window
from cosim.network.packing import unpack_bits
from cosim.network.partition import partition_report


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 256), st.sampled_from(ORDERS))
def test_every_weight_sits_in_a_cell_of_its_own(seed: int, rows: int, order: Order):
    network = random_conv_network(np.random.default_rng(seed))
    layouts = map_network(network, rows, order)
    for layer, part in zip(network.binary_layers, partition_report(network, rows=rows, order=order), strict=True):
        assert part.array.shape == part.row.shape == (layer.in_features,)
        assert len(set(zip(part.array.tolist(), part.row.tolist(), strict=True))) == layer.in_features
        assert part.row.max() < rows
        assert part.array.max() == part.down - 1
        layout = lay_out(layer, layouts[layer.name])
        by_array = layout.weights.T.reshape(layer.columns, part.down, -1)
        bits = unpack_bits(by_array, rows)
        np.testing.assert_array_equal(bits[:, part.array, part.row], layer.signs > 0)
        assert bits.sum() == (layer.signs > 0).sum()
        held = part.utilisation * part.cells
        assert held == pytest.approx(layer.signs.size, rel=1e-12)
    total = sum(part.reads for part in partition_report(network, rows=rows, order=order))
    assert total == partial_sums_per_image(network, rows, order)


@pytest.mark.parametrize(
    ("channels", "rows", "order", "down", "n_active"),
    [
        (128, 64, "flat", 18, (64,)),
        (128, 64, "positions", 18, (64,)),  # ceil(128 / 64) folds of each of 9 positions
        (96, 64, "positions", 18, (32, 64)),
        (96, 64, "flat", 14, (32, 64)),  # 864 inputs: 13.5 sub-arrays
        (24, 64, "positions", 5, (24, 48)),  # floor(64 / 24) = 2 positions a sub-array
        (24, 64, "flat", 4, (24, 64)),
        (64, 256, "positions", 3, (64, 256)),  # 4 positions a sub-array
        (3, 256, "positions", 1, (27,)),
    ],
)
def test_row_orders_of_date_2021(channels: int, rows: int, order: Order, down: int, n_active: tuple[int, ...]):
    part = partition_report(conv(channels, 10, pad_value=1), rows=rows, order=order)[0]
    assert (part.down, part.n_active) == (down, n_active)
    assert part.reads == 36 * down * 10


def test_positions_stay_whole():
    window = Window((24, 6, 6), (3, 3))
    mapping = map_window(window, 64, "positions")
    taps = np.arange(window.in_features) // 24
    assert [len(set(mapping.array[taps == tap])) for tap in range(9)] == [1] * 9


def test_rows_in_zero_padding_are_off_and_arrays_of_them_are_not_read():
    part = partition_report(conv(128, 10), rows=64)[0]
    # 36 positions see 16 * 16 of 18 * 18 kernel positions, two sub-arrays each.
    assert part.reads == 16 * 16 * 2 * 10
    assert part.n_active == (64,)
    mixed = partition_report(conv(16, 10), rows=64, order="positions")[0]
    assert mixed.n_active == (16, 32, 48, 64)


def test_figures_add_up():
    part = partition_report(conv(24, 70), rows=64, columns=64, columns_per_amplifier=8)[0]
    assert (part.down, part.across, part.arrays) == (4, 2, 8)
    assert part.cells == 8 * 64 * 64
    assert part.row_utilisation == 216 / 256
    assert part.utilisation == 216 * 70 / part.cells
    assert (part.positions, part.cycles) == (36, 36 * 8)


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"rows": 257}, {"columns": 0}, {"columns": 10, "columns_per_amplifier": 4}]
)
def test_wrong_numbers_are_refused(wrong: dict):
    with pytest.raises(InputError, match=r"rows of a sub-array|columns must be"):
        partition_report(conv(3, 2), **wrong)


def test_a_wrong_order_is_refused():
    with pytest.raises(InputError, match="row order must be one of flat, positions, got 'torch'"):
        partition_report(conv(3, 2), order="torch")


def test_reference_counts_agree_with_the_report():
    network = conv(16, 3)
    mapping = map_network(network, 64, "positions")["conv"]
    seen = reference.patches(np.ones((1, 16, 6, 6), np.int8), network.window(0))
    on = np.stack([(seen[0] != 0)[:, mapping.array == a].sum(axis=1) for a in range(mapping.arrays)], axis=1)
    np.testing.assert_array_equal(on, mapping.n_active[mapping.kind])
