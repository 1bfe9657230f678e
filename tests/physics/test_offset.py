"""The comparators decide at zero without mismatch, and their offset is linear in the threshold shifts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck, decision
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process

RunDeck = Callable[[Deck], np.ndarray]
NAMES = ("strongarm", "strongarm_differential")


def bench(name: str, **changes: float) -> ComparatorBench:
    return comparator_bench(load_amplifier(name), load_process("generic65"), **changes)


def offset(run_deck: RunDeck, comparator: ComparatorBench, shifts: np.ndarray, resolution_v: float = 2e-4) -> float:
    """The differential at which the decision turns, by bisection; an undecided one is the turning point."""
    low, high = -0.128, 0.128
    for _ in range(math.ceil(math.log2((high - low) / resolution_v))):
        middle = (low + high) / 2
        decided = decision(comparator, run_deck(comparator_deck(comparator, middle, shifts)))
        if decided == 0:
            return middle
        low, high = (low, middle) if decided > 0 else (middle, high)
    return (low + high) / 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("common_mode_v", [0.4, 0.6, 0.9])
def test_no_mismatch_no_offset(run_deck: RunDeck, name: str, common_mode_v: float) -> None:
    comparator = bench(name, common_mode_v=common_mode_v)
    shifts = np.zeros(len(comparator.amplifier.devices))
    for differential_v, expected in ((2e-4, 1), (-2e-4, -1)):
        values = run_deck(comparator_deck(comparator, differential_v, shifts))
        assert decision(comparator, values) == expected


def test_the_differential_amplifier_compares_with_the_reference_difference(run_deck: RunDeck) -> None:
    for reference_v in (-0.3, 0.3):
        comparator = bench("strongarm_differential", reference_v=reference_v)
        assert abs(offset(run_deck, comparator, np.zeros(14))) < 2e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_offset_is_linear_in_the_shifts(run_deck: RunDeck, name: str) -> None:
    """The sum of single sensitivities foretells a random comparator's offset.

    1.5 mV: 0.2 mV of bisection for each of 14 sensitivities at 10 mV, times shifts of about 15 mV, add up to 0.8 mV;
    the rest is the curvature (reference: correlation 0.9996 where sigma is 18 mV, 0.5 mV).
    """
    comparator = bench(name)
    count = len(comparator.amplifier.devices)
    single = [offset(run_deck, comparator, 0.01 * row, 5e-5) / 0.01 for row in np.eye(count)]
    rng = np.random.default_rng(11)
    sigmas = comparator.amplifier.vth_sigmas(comparator.process)
    for _ in range(2):
        shifts = rng.normal(size=count) * sigmas
        assert offset(run_deck, comparator, shifts) == pytest.approx(single @ shifts, abs=1.5e-3)
    sigma_mv = 1e3 * np.linalg.norm(single * sigmas)
    # reference: 18 to 20 mV with two inputs, 29 mV with four at a reference difference of 0.
    assert (18 if name == "strongarm" else 28) < sigma_mv < (20.5 if name == "strongarm" else 31)


def test_a_weaker_input_transistor_needs_more_signal(run_deck: RunDeck) -> None:
    comparator = bench("strongarm")
    shifts = np.zeros(11)
    shifts[[device.name for device in comparator.amplifier.devices].index("minp")] = 0.01
    assert offset(run_deck, comparator, shifts) == pytest.approx(0.0105, abs=0.001)


@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_tail_gives_the_inputs_time(run_deck: RunDeck, name: str) -> None:
    """At a high common mode the latch turns on before the inputs have made a difference, and its own mismatch counts.

    A tail of 120 instead of 1000 nm takes the inputs' overdrive, so they make more difference before: what a latch
    transistor's shift is worth at the input falls to less than half, at 0.95 V and the common modes below.
    """
    worth = []
    for w_tail in (1e-6, 120e-9):
        amplifier = load_amplifier(name)
        sized = replace(amplifier, parameters={**amplifier.parameters, "w_tail": w_tail})
        comparator = comparator_bench(sized, load_process("generic65"), common_mode_v=0.95, decision_s=0.8e-9)
        shifts = 0.01 * np.array([device.name == "mnn" for device in sized.devices])
        worth.append(offset(run_deck, comparator, shifts))
    assert 0 < worth[1] < worth[0] / 2
