"""Samples a second of each engine on the 64-row 8T column, as ratios to one `ngspice -b` a sample in the same run.

Run: pytest tests/bench/bench_engine.py -s. Nine tenths of either are BSIM4, so the same deck gains little in a worker
that stays; `bypass` is `column.bypass = true`, whose error stands in the cell's README.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cosim.campaign.points import ColumnPoint, points_of
from cosim.campaign.recipe import load_campaign
from cosim.circuit.deck import Deck
from cosim.spice.engine import EngineName, Measured, open_engine

SAMPLES = 16
ROUNDS = 3


@pytest.fixture(scope="module")
def decks() -> list[Deck]:
    """Columns with 32 of 64 rows on BL, each with its own mismatch."""
    return drawn(bypass=False)


def drawn(*, bypass: bool) -> list[Deck]:
    """The same columns, with ngspice's bypass or without."""
    point = next(p for p in points_of(load_campaign("quick")) if isinstance(p, ColumnPoint) and p.n_minus == 32)
    point = dataclasses.replace(point, bench=dataclasses.replace(point.bench, bypass=bypass))
    return [point.deck(point.draw(1, sample)) for sample in range(SAMPLES)]


def one_after_the_other(name: EngineName, decks: list[Deck]) -> Callable[[], None]:
    """Runs all decks on one engine that is started before."""
    engine = open_engine(name)
    engine.run(decks[:1], timeout_s=60)

    def run() -> None:
        assert all(isinstance(result, Measured) for result in engine.run(decks, timeout_s=60))

    return run


def two_at_once(name: EngineName, decks: list[Deck]) -> Callable[[], None]:
    """Half of the decks on each of two engines, as a campaign with two workers."""
    halves = [one_after_the_other(name, decks[start::2]) for start in (0, 1)]
    pool = ThreadPoolExecutor(2)

    def run() -> None:
        list(pool.map(lambda half: half(), halves))

    return run


@pytest.mark.parametrize("name", ["shared", "shared, bypass", "shared, 2 workers", "batch, 2 at once"])
def test_engine_against_batch(benchmark: BenchmarkFixture, decks: list[Deck], name: str) -> None:
    """Rounds alternate between the engine and `ngspice -b`, so that both meet the same machine.

    Two `ngspice -b` at once show what a second core of this machine is worth to any engine.
    """
    batch = one_after_the_other("batch", decks)
    given = drawn(bypass=True) if "bypass" in name else decks
    engine: EngineName = "batch" if "batch" in name else "shared"
    run = (two_at_once if "2" in name else one_after_the_other)(engine, given)
    batch_s: list[float] = []

    def before() -> None:
        began = time.perf_counter()
        batch()
        batch_s.append(time.perf_counter() - began)

    benchmark.pedantic(run, setup=before, rounds=ROUNDS)
    engine_rate, batch_rate = SAMPLES / benchmark.stats.stats.median, SAMPLES / sorted(batch_s)[ROUNDS // 2]
    benchmark.extra_info |= {"samples_per_s": engine_rate, "batch_samples_per_s": batch_rate}
    ratio = engine_rate / batch_rate
    print(f"\n{name}: {engine_rate:.1f} samples/s, {ratio:.2f} x one `ngspice -b` a sample ({batch_rate:.1f}/s)")
