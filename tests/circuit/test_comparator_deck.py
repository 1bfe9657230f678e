from __future__ import annotations

import re

import numpy as np
import pytest

from cosim.circuit.amplifier import load_amplifier
from cosim.circuit.comparator import ComparatorBench, comparator_bench, comparator_deck, decision
from cosim.circuit.process import load_process
from cosim.errors import InputError


def bench(name: str, **changes: float) -> ComparatorBench:
    return comparator_bench(load_amplifier(name), load_process("generic65"), **changes)


def input_levels(text: str) -> dict[str, float]:
    found = re.findall(r"^v(\w+) \1 0 ([-+.e\d]+)$", text, re.MULTILINE)
    return {name: float(level) for name, level in found}


def test_two_inputs_differ_by_the_differential() -> None:
    deck = comparator_deck(bench("strongarm", common_mode_v=0.55), 0.01, np.zeros(11))
    assert input_levels(deck.text) == pytest.approx({"inp": 0.56, "inn": 0.55})
    assert deck.probes == ("outp", "outn")
    assert deck.text.endswith(".end\n")


def test_four_inputs_differ_by_the_reference_and_the_differential() -> None:
    deck = comparator_deck(bench("strongarm_differential", reference_v=0.2), 0.01, np.zeros(14))
    levels = input_levels(deck.text)
    assert levels["refp"] - levels["refn"] == pytest.approx(0.2)
    assert levels["bl"] - levels["blb"] == pytest.approx(0.21)
    assert np.mean(list(levels.values())) == pytest.approx(0.6)


def test_decision_needs_a_quarter_of_the_supply() -> None:
    comparator = bench("strongarm")
    for outputs, expected in (((1.0, 0.0), 1), ((0.0, 1.0), -1), ((0.6, 0.5), 0), ((0.4, 0.7), -1)):
        assert decision(comparator, np.array(outputs)[:, None]) == expected


def test_wrong_values_are_refused() -> None:
    with pytest.raises(InputError, match="common_mode_v"):
        bench("strongarm", common_mode_v=-0.1)
    with pytest.raises(InputError, match="decision_s"):
        bench("strongarm", decision_s=1e-12)
    with pytest.raises(InputError, match="expected 11 finite shifts"):
        comparator_deck(bench("strongarm"), 0.0, np.zeros(8))
