"""Offset sigma of a comparator against its level, from its sensitivity to each transistor; the table of its README.

Run: python tests/bench/offset_figures.py strongarm 0.4 0.6 0.8 0.95
     python tests/bench/offset_figures.py strongarm_differential 0 0.2 0.4
"""

from __future__ import annotations

import sys

import numpy as np

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck, decision
from cosim.circuit.process import load_process
from cosim.spice.engine import Engine, Measured, open_engine

STEP_V, TOLERANCE_V, RANGE_V = 20e-3, 0.1e-3, 0.2


def trip_v(bench: ComparatorBench, shift_v: np.ndarray, engine: Engine) -> float:
    """The differential at which the decision turns."""
    low, high = -RANGE_V, RANGE_V
    while high - low > TOLERANCE_V:
        middle = (low + high) / 2
        (result,) = engine.run([comparator_deck(bench, middle, shift_v)], timeout_s=60)
        assert isinstance(result, Measured), result
        low, high = (low, middle) if decision(bench, result.values) > 0 else (middle, high)
    return (low + high) / 2


def sigma_v(name: str, level_v: float, engine: Engine) -> float:
    """Root of the sum of squares of each transistor's sensitivity times its sigma."""
    amplifier, process = load_amplifier(name), load_process("generic65")
    differential = any(share.reference for share in amplifier.inputs.values())
    level = {"reference_v" if differential else "common_mode_v": level_v}
    bench = comparator_bench(amplifier, process, **level)
    shifts = STEP_V * np.eye(len(amplifier.devices))
    slope = np.array([(trip_v(bench, s, engine) - trip_v(bench, -s, engine)) / (2 * STEP_V) for s in shifts])
    return float(np.sqrt(np.sum((slope * amplifier.vth_sigmas(process)) ** 2)))


if __name__ == "__main__":
    shared = open_engine("shared")
    for level in map(float, sys.argv[2:]):
        print(f"{sys.argv[1]} at {level:g} V: sigma {1e3 * sigma_v(sys.argv[1], level, shared):.1f} mV")
    shared.close()
