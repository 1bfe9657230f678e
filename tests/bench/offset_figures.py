"""Offset sigma of a comparator against its level, from its sensitivity to each transistor; the table of its README.

Run: python tests/bench/offset_figures.py strongarm 0.4 0.6 0.8 0.95
     python tests/bench/offset_figures.py strongarm_differential 0 0.2 0.4
     python tests/bench/offset_figures.py strongarm 0.8 0.95 w_tail=120e-9 w_in=2e-6 w_n=1e-6 decision_s=0.8e-9
     python tests/bench/offset_figures.py strongarm_differential 0 common_mode_v=0.95 w_tail=120e-9 decision_s=0.8e-9
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck, decision
from cosim.circuit.process import load_process
from cosim.spice.engine import Engine, Measured, open_engine

STEP_V, TOLERANCE_V, RANGE_V = 20e-3, 0.1e-3, 0.5


def trip_v(bench: ComparatorBench, shift_v: np.ndarray, engine: Engine) -> float:
    """The differential at which the decision turns."""
    low, high = -RANGE_V, RANGE_V
    while high - low > TOLERANCE_V:
        middle = (low + high) / 2
        (result,) = engine.run([comparator_deck(bench, middle, shift_v)], timeout_s=60)
        assert isinstance(result, Measured), result
        low, high = (low, middle) if decision(bench, result.values) > 0 else (middle, high)
    return (low + high) / 2


def sigma_v(name: str, level_v: float, changes: Mapping[str, float], engine: Engine) -> float:
    """Root of the sum of squares of each transistor's sensitivity times its sigma."""
    amplifier, process = load_amplifier(name), load_process("generic65")
    sizes = {key: value for key, value in changes.items() if key in amplifier.parameters}
    amplifier = replace(amplifier, parameters={**amplifier.parameters, **sizes})
    differential = any(share.reference for share in amplifier.inputs.values())
    level = {"reference_v" if differential else "common_mode_v": level_v}
    bench = comparator_bench(amplifier, process, **level, **{key: changes[key] for key in changes.keys() - sizes})
    shifts = STEP_V * np.eye(len(amplifier.devices))
    slope = np.array([(trip_v(bench, s, engine) - trip_v(bench, -s, engine)) / (2 * STEP_V) for s in shifts])
    return float(np.sqrt(np.sum((slope * amplifier.vth_sigmas(process)) ** 2)))


if __name__ == "__main__":
    shared = open_engine("shared")
    named = {key: float(value) for key, value in (each.split("=") for each in sys.argv[2:] if "=" in each)}
    for level in (float(each) for each in sys.argv[2:] if "=" not in each):
        print(f"{sys.argv[1]} at {level:g} V: sigma {1e3 * sigma_v(sys.argv[1], level, named, shared):.1f} mV")
    shared.close()
