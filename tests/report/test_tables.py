"""Figures in the tables against hand calculation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosim.network.outcome import Outcome
from cosim.report import tables
from cosim.report.run import load_run
from cosim.stats import proportion


def outcome(mode: str, right: int, n: int, sensing: str = "differential", bits: int = 3, seed: int = 0) -> Outcome:
    about = ("", 0) if mode == "ideal" else (sensing, bits)
    return Outcome("net", "toy", mode, *about, seed, proportion(right, n), 10, 1.0, "n", "s", "k")


def test_loss_is_newcombes() -> None:
    # Newcombe (1998), table II, 56/70 against 48/80 by method 10: 0.2000, 0.0524 to 0.3339.
    first, second = proportion(56, 70), proportion(48, 80)
    ideal = replace(outcome("ideal", 56, 70), accuracy=replace(first, n=80))
    lost = tables.loss(replace(outcome("iid", 48, 80), accuracy=second), [ideal])
    assert lost is not None
    assert (lost.value, lost.low, lost.high) == pytest.approx((20.0, 5.24, 33.39), abs=5e-3)


def test_loss_needs_ideal_on_as_many_images() -> None:
    ideal, iid = outcome("ideal", 90, 100), outcome("iid", 800, 1000)
    assert tables.loss(iid, [ideal, iid]) is None
    assert tables.loss(ideal, [ideal, iid]) is None


def test_conditions_tell_outcomes_apart() -> None:
    ideal, iid = outcome("ideal", 90, 100), outcome("iid", 80, 100)
    assert tables.condition(iid, [ideal, iid]) == "iid, differential"
    others = [iid, outcome("iid", 81, 100, bits=4), outcome("iid", 81, 100, seed=1), outcome("iid", 80, 101)]
    names = [tables.condition(each, others) for each in others]
    assert names[0] == "iid, differential, 3 bit, seed 0, n = 100"
    assert len(set(names)) == 4


def test_order_is_ideal_then_single_ended_then_differential() -> None:
    mixed = [
        outcome("iid", 1, 2), outcome("nominal", 1, 2), outcome("iid", 1, 2, "single_ended"), outcome("ideal", 1, 2)
    ]  # fmt: skip
    ordered = tables.network_outcomes(mixed)["net"]
    assert [(each.mode, each.sensing) for each in ordered] == [
        ("ideal", ""), ("iid", "single_ended"), ("nominal", "differential"), ("iid", "differential")
    ]  # fmt: skip


def test_level_errors(whole_run: Path) -> None:
    run = load_run(whole_run)
    codes = tables.code_tables(run)
    for row, kept in zip(tables.level_table(run, codes).rows[::2], run.calibrations, strict=True):
        levels = kept.calibration.levels["dense2", 16]
        right, alone, varied = map(float, row[-3:])
        # By simulation, an estimate of its own: draws from P(code | count), 2e5 reads, so 0.3 points and 1 %.
        generator = np.random.default_rng(1)
        share = levels.histogram / levels.histogram.sum()
        count = generator.choice(17, 200_000, p=share)
        table = codes[kept.file, ("dense2", 16)]
        code = (generator.random(count.size)[:, None] > table[count].cumsum(axis=1)[:, :-1]).sum(axis=1)
        error = levels.centroid_mac[code] - (16 - 2 * count)
        assert np.sqrt((error**2).mean()) == pytest.approx(varied, rel=0.02)
        nominal = (count[:, None] < levels.threshold_count).sum(axis=1)
        assert 100 * (code == nominal).mean() == pytest.approx(right, abs=0.5)
        error = levels.centroid_mac[nominal] - (16 - 2 * count)
        assert np.sqrt((error**2).mean()) == pytest.approx(alone, rel=0.02)


def test_held_out_table_leaves_out_what_was_not_measured(whole_run: Path) -> None:
    figures = load_run(whole_run).surrogate.validation
    assert [row[0] for row in tables.held_out_table(figures).rows] == ["BL", "BLB, the mirror image", "BL − BLB"]
    assert tables.held_out_table({}).rows == ()


def test_long_texts_are_cut_and_say_so(whole_run: Path) -> None:
    run = load_run(whole_run)
    about = dict(run.surrogate.provenance) | {"netlist_cell": "x" * (tables.MOST_TEXT + 1234)}
    long = replace(run, surrogate=replace(run.surrogate, provenance=about))
    assert tables.texts(long)["Netlist: cell"].endswith("1,234 more characters are in the file")
    assert list(tables.texts(long)) == ["Recipe", "Netlist: cell"]


def test_failures_that_cannot_be_read(whole_run: Path) -> None:
    run = load_run(whole_run)
    assert tables.failures(run)[0][:2] == ("strongarm at 0.3 V", 1)
    for broken in ("[", "[1]", '[["a", "b", "c"]]', "null"):
        about = dict(run.surrogate.provenance) | {"failures": broken}
        found = tables.failures(replace(run, surrogate=replace(run.surrogate, provenance=about)))
        assert found == [("failures", 0, "the list in the file cannot be read")]
