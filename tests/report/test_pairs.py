"""A page of a network whose pairs of bits have levels of their own, beside the same with common levels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cosim.errors import InputError
from cosim.network.outcome import load_outcomes, save_outcomes
from cosim.report.page import write_page
from cosim.report.run import load_run
from cosim.report.tables import code_tables, condition, level_table
from cosim.surrogate.files import load_calibration, save_calibration

FILE = "calibration-toy_mlp-{}-3bit{}.h5"


@pytest.fixture
def with_pairs(run: Path) -> Path:
    """The run with every outcome that reads a circuit twice: common levels, and levels for pairs."""
    for sensing in ("single_ended", "differential"):
        common = load_calibration(run / FILE.format(sensing, ""))
        pairs = {(*group, i, 0): each for group, each in common.levels.items() for i in range(2)}
        save_calibration(replace(common, levels=pairs), run / FILE.format(sensing, "-pair"))
    kept = load_outcomes(run / "outcomes.json")
    read = [each for each in kept if each.mode != "ideal"]
    both = [replace(each, levels_per=per, key=each.key + per) for per in ("layer", "pair") for each in read]
    save_outcomes([kept[0], *both], run / "outcomes.json")
    return run


def test_outcomes_go_with_their_own_levels(with_pairs: Path):
    run = load_run(with_pairs)
    assert sorted(kept.file for kept in run.calibrations) == sorted(
        FILE.format(sensing, suffix) for sensing in ("single_ended", "differential") for suffix in ("", "-pair")
    )
    layers = [row[0] for row in level_table(run, code_tables(run)).rows]
    assert sum("weight bit 1, activation bit 0" in each for each in layers) == 4
    assert layers.count("toy_mlp: dense2") == 2
    conditions = {condition(each, run.outcomes) for each in run.outcomes}
    assert len(conditions) == len(run.outcomes) == 9
    assert "iid, differential, levels for each pair of bits" in conditions
    page = write_page(with_pairs).read_text()
    assert "dense2, weight bit 1, activation bit 0" in page
    assert "differential, levels for all pairs of bits" in page


def test_levels_that_are_lost_are_named(with_pairs: Path):
    (with_pairs / FILE.format("differential", "-pair")).unlink()
    with pytest.raises(InputError, match=r"-pair\.h5: no calibration of this surrogate.*--bits 3 --levels-per pair"):
        load_run(with_pairs)
