"""Prints how the column's error and cost depend on time step and bypass: the table in the 8T cell's README.

Run: python tests/bench/column_time_step.py [draws]. The reference is 0.25 ps steps with tight tolerances on
the same draws; a few minutes on one core.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Iterator

import numpy as np

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process
from cosim.spice.engine import Measured, open_engine

COUNTS = (0, 32, 60)
TIGHT = "method=trap reltol=1e-6 abstol=1e-12 vntol=1e-8 chgtol=1e-18"


def main(draws: int = 3) -> None:
    cell, process = load_cell("xnor_8t"), load_process("generic65")
    bench = column_bench(cell, process)
    fine = dataclasses.replace(bench, time_step_s=0.25e-12, bypass=False)
    reference, _ = run(tight(deck) for deck in decks(fine, draws))
    print("| time step, ps | bypass | ms a sample | bias, mV | rms, mV | worst, mV |")
    print("| --- | --- | --- | --- | --- | --- |")
    for step_ps in (2, 5, 10, 20, 40):
        for bypass in (False, True):
            changed = dataclasses.replace(bench, time_step_s=step_ps * 1e-12, bypass=bypass)
            values, seconds = run(decks(changed, draws))
            e = 1e3 * (values - reference)
            cost = 1e3 * seconds / len(values)
            print(
                f"| {step_ps} | {'yes' if bypass else 'no'} | {cost:.0f} "
                f"| {e.mean():+.2f} | {e.std():.2f} | {abs(e).max():.2f} |"
            )


def decks(bench: ColumnBench, draws: int) -> Iterator[Deck]:
    """The same draws for every bench."""
    rng = np.random.default_rng(1)
    sigmas = bench.cell.vth_sigmas(bench.process)
    for count in COUNTS:
        for _ in range(draws):
            products = np.where(np.arange(bench.rows) < count, 1, -1).astype(np.int8)
            weights = rng.choice(np.array([-1, 1], np.int8), bench.rows)
            yield column_deck(bench, products, weights, rng.normal(size=(bench.rows, len(sigmas))) * sigmas)


def tight(deck: Deck) -> Deck:
    return dataclasses.replace(deck, text=re.sub(r"method=trap.*", TIGHT, deck.text))


def run(decks: Iterator[Deck]) -> tuple[np.ndarray, float]:
    """Both bit lines of every deck, in volts, and the seconds that it took."""
    engine, given = open_engine("shared"), list(decks)
    engine.run(given[:1], timeout_s=120)
    start = time.perf_counter()
    results = engine.run(given, timeout_s=120)
    seconds = time.perf_counter() - start
    assert all(isinstance(result, Measured) for result in results), results
    return np.array([result.values[:2, -1] for result in results]), seconds


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
