"""What the fast column of a 64-row 8T column costs on one core, beside one `ngspice -b` a sample in the same run.

The limit of anything that simulates is how many transistors ngspice evaluates a second: transistors times Newton
iterations, which are those of `.options acct` in `ngspice -b`, over the seconds of a processor that it took.

Run: pytest tests/bench/bench_fast.py -s
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck
from cosim.circuit.deck import Deck
from cosim.circuit.process import load_process
from cosim.fast.bank import measure_bank
from cosim.fast.build import build_fast_column, build_from_bank
from cosim.fast.check import check
from cosim.fast.column import FastColumn
from cosim.spice.engine import Engine, Measured, open_engine
from cosim.spice.library import find_program

COLUMNS = 8000
BATCH_SAMPLES = 8
ROUNDS = 5
WANTED_PER_S = 8000
WANTED_RATIO = 1000
WANTED_POINT_S = 60
"""On two cores; one is enough."""


@pytest.fixture(scope="module")
def bench() -> ColumnBench:
    return column_bench(load_cell("xnor_8t"), load_process("generic65"))


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    engine = open_engine("shared")
    assert engine.version
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def fast(bench: ColumnBench, shared: Engine) -> FastColumn:
    began = time.perf_counter()
    bank = measure_bank(bench, shared, seed=0)
    middle = time.perf_counter()
    fast = build_from_bank(bench, shared, bank)
    done = time.perf_counter()
    print(
        f"\nbank of {bank.shift_v.shape[1]} cells a state {middle - began:.1f} s; surface and fit {done - middle:.1f} s"
    )
    return fast


def drawn(bench: ColumnBench, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random products and weights, and shifts of the process."""
    generator = np.random.default_rng(0)
    signs = np.array([-1, 1], np.int8)
    products, weights = (generator.choice(signs, (columns, bench.rows)) for _ in range(2))
    sigmas = bench.cell.vth_sigmas(bench.process)
    return products, weights, generator.standard_normal((columns, bench.rows, sigmas.size)) * sigmas


def test_columns_a_second(benchmark: BenchmarkFixture, bench: ColumnBench, fast: FastColumn) -> None:
    """Shifts to voltages; rounds alternate with `ngspice -b`, so that both meet the same machine."""
    draws = drawn(bench, COLUMNS)
    fast.read(*(values[:1] for values in draws))
    batch = open_engine("batch")
    decks: list[Deck] = [column_deck(bench, *(values[i] for values in draws)) for i in range(BATCH_SAMPLES)]
    batch_s: list[float] = []

    def before() -> None:
        began = time.perf_counter()
        assert all(isinstance(result, Measured) for result in batch.run(decks, timeout_s=60))
        batch_s.append((time.perf_counter() - began) / BATCH_SAMPLES)

    benchmark.pedantic(lambda: fast.read(*draws), setup=before, rounds=ROUNDS)
    rate, batch_rate = COLUMNS / benchmark.stats.stats.median, 1 / sorted(batch_s)[ROUNDS // 2]
    benchmark.extra_info |= {"columns_per_s": rate, "batch_samples_per_s": batch_rate}
    print(f"\n{rate:.0f} columns/s, {rate / batch_rate:.0f} x one `ngspice -b` a sample ({batch_rate:.1f}/s)")
    assert rate >= WANTED_PER_S
    assert rate >= WANTED_RATIO * batch_rate


def test_device_evaluations(bench: ColumnBench, tmp_path: Path) -> None:
    """The limit beside the figures: BSIM4 evaluations a second, and what they allow."""
    draws = drawn(bench, 1)
    text = column_deck(bench, *(values[0] for values in draws)).text
    text = text.replace(".option bypass", ".option acct\n.option bypass", 1)
    (tmp_path / "deck.cir").write_text(text)
    (tmp_path / ".spiceinit").write_text("set num_threads=1\n")
    command = [find_program(), "-b", "-r", "deck.raw", "deck.cir"]
    private = os.environ | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    before = os.times().children_user
    done = subprocess.run(
        command, cwd=tmp_path, env=private, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True
    )
    seconds = os.times().children_user - before
    found = re.search(r"Transient iterations = (\d+)", done.stdout.decode("utf-8", "replace"))
    assert found is not None
    iterations = int(found[1])
    transistors = bench.rows * sum(line[0] == "m" for line in bench.cell.subcircuit.elements)
    rate = transistors * iterations / seconds
    print(f"\n{transistors} transistors, {iterations} Newton iterations, {seconds:.3f} s of a processor")
    print(f"{1e-6 * rate:.2f} M BSIM4 evaluations/s: at most {1 / seconds:.0f} full columns/s on this core")
    assert rate > 1e5


def test_a_point(bench: ColumnBench) -> None:
    """One operating point from nothing: bank, fit, and the check of 20 draws at five counts; processor seconds."""
    engine = open_engine("shared")
    assert engine.version
    before, began = os.times(), time.perf_counter()
    result = check(build_fast_column(bench, engine, seed=3), bench, engine, draws=20)
    engine.close()  # Its worker's time is known once it has ended.
    after, wall_s = os.times(), time.perf_counter() - began
    spent_s = sum(getattr(after, name) - getattr(before, name) for name in ("user", "children_user", "children_system"))
    print(f"\none point: {spent_s:.1f} processor seconds, {wall_s:.1f} s; 15 points {spent_s / 4:.1f} min on one core")
    assert result.passed
    assert spent_s <= WANTED_POINT_S


def test_error(bench: ColumnBench, shared: Engine, fast: FastColumn) -> None:
    """The same draws in both: the table of bias and rms, and its bound."""
    result = check(fast, bench, shared, draws=20, counts=(0, 16, 32, 48, 60))
    print("\n| n_minus | bias of BL, BLB, BL - BLB, mV | rms, mV | bias, counts | rms, counts |\n" + "| --- " * 5 + "|")
    for row, count in enumerate(result.count):
        slope_v = result.volts_a_count[row]
        tables = (1e3 * result.bias_v[row], 1e3 * result.rms_v[row], result.bias_v[row] / slope_v)
        cells = [" ".join(f"{value:+.3f}" for value in each) for each in tables]
        cells.append(" ".join(f"{value:.4f}" for value in result.rms_v[row] / slope_v))
        print(f"| {count} | " + " | ".join(cells) + " |")
    assert result.passed
