from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network, random_readout, random_readouts

from cosim.errors import InputError
from cosim.network.layout import map_network
from cosim.network.mapping import map_inputs
from cosim.network.read_tables import read_tables
from cosim.network.readout import Readout, check_readouts, exact_readout


def make(**changes) -> Readout:
    parts = {
        "probability": np.full((3, 2), 0.5),
        "nominal": np.array([0, 1, 1]),
        "centroid": np.array([-5, 5], np.int32),
        "fraction_bits": 2,
    }
    return Readout(**(parts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": np.full((3, 2), 0.4)}, "probabilities of count 0 sum to 0.8, expected 1"),
        ({"probability": np.array([[1, 0], [2, -1], [1, 0]], float)}, "finite and not negative"),
        ({"probability": np.full((3, 2), np.nan)}, "finite and not negative"),
        ({"probability": np.full((3, 2), 0.5, np.float32)}, "float64 of shape"),
        ({"probability": np.full(3, 1.0)}, "float64 of shape"),
        ({"nominal": np.array([0, 1])}, "nominal must hold 3 codes"),
        ({"nominal": np.array([0, 1, 2])}, "nominal codes must be 0 to 1"),
        ({"nominal": np.array([0, -1, 1])}, "nominal codes must be 0 to 1"),
        ({"nominal": np.array([0.0, 1, 1])}, "nominal must hold"),
        ({"centroid": np.array([1, 2, 3], np.int32)}, "centroid must hold 2 integers"),
        ({"centroid": np.array([0, 40000], np.int32)}, "use fewer fraction bits"),
        ({"fraction_bits": -1}, "fraction_bits"),
    ],
)
def test_a_wrong_table_is_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_readouts_must_fit_the_network():
    rng = np.random.default_rng(0)
    network = random_network((10, 70, 3), rng)
    good = random_readouts(network, rng)
    check_readouts(network, good, map_network(network, 64))
    wrong = {
        "no readouts for this layer": {},
        "reads no partial sums": good | {"dense0": good["dense1"]},
        "readouts for layer other": good | {"other": good["dense1"]},
        "no readout for 6 active rows": {"dense1": {64: good["dense1"][64]}},
        "must have 65 counts, got 64": {"dense1": good["dense1"] | {64: random_readout(63, 8, rng)}},
        "the same fraction_bits": {"dense1": good["dense1"] | {6: random_readout(6, 8, rng, fraction_bits=5)}},
    }
    for message, readouts in wrong.items():
        with pytest.raises(InputError, match=message):
            check_readouts(network, readouts, map_network(network, 64))
    with pytest.raises(InputError, match="no readout for 32 active rows"):
        check_readouts(network, good, map_network(network, 32))


def test_tables_of_different_numbers_of_rows_lie_one_after_the_other():
    mapping = map_inputs(70)
    readouts = {64: exact_readout(64), 6: exact_readout(6)}
    tables = read_tables(readouts, mapping, "nominal")
    assert tables.nominal is not None
    assert tables.nominal.centroid.tolist() == [*range(6, -7, -2), *range(64, -65, -2)]
    drawn = read_tables(readouts, mapping, "iid")
    assert drawn.alias is not None
    assert drawn.alias.shape == (7 + 65, 128)
    for each in (tables, drawn):
        assert (each.start[6], each.start[64], each.start.max(), each.start[0]) == (0, 7, 7, -1)
