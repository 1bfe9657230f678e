from __future__ import annotations

import numpy as np

from cosim.circuit.sources import edge_pulse, time_marks


def test_the_pulse_is_measured_between_half_way_points() -> None:
    source = edge_pulse("v1", "a", 0.5, 10e-12, 20e-12, 150e-12)
    start, rise, fall, flat = (float(word) for word in source.split("(")[1].split()[2:6])
    assert np.isclose((start + rise + flat + fall / 2) - (start + rise / 2), 150e-12)


def test_every_mark_has_a_source_of_its_own() -> None:
    assert time_marks([1e-12, 2e-12]) == [
        "vmark0 mark0 0 pwl(0 0 1e-12 0)",
        "vmark1 mark1 0 pwl(0 0 2e-12 0)",
    ]
