"""One task: each sample's values or the reason why it has none, without a trace in its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from cosim.campaign.collect import plan
from cosim.campaign.filetypes import STATUS
from cosim.campaign.points import ColumnPoint, ComparatorPoint
from cosim.campaign.recipe import load_campaign
from cosim.campaign.sampling import Task, run_task
from cosim.circuit.deck import Deck
from cosim.errors import InputError
from cosim.spice.engine import Engine, Failed, Measured, Result


@dataclass
class Stub:
    """An engine that answers from a function of the deck and remembers what it ran."""

    answer: Callable[[Deck], Result]
    ran: list[Deck] = field(default_factory=list)
    name: str = "stub"
    version: str = "0"

    def run(self, decks: Sequence[Deck], *, timeout_s: float) -> list[Result]:
        self.ran += decks
        return [self.answer(deck) for deck in decks]

    def close(self) -> None:
        pass


def run(task: Task, engine: Engine):
    return run_task(replace(task, engine_version=engine.version), open_=lambda _: engine)


@pytest.fixture
def column_task(tiny_recipe: Callable[..., Path]) -> Task:
    tasks = plan(load_campaign(tiny_recipe()), "39")
    return next(t for t in tasks if isinstance(t.point, ColumnPoint) and t.point.n_minus == 4)


@pytest.fixture
def comparator_task(tiny_recipe: Callable[..., Path]) -> Task:
    tasks = plan(load_campaign(tiny_recipe(comparator=True)), "39")
    return next(t for t in tasks if isinstance(t.point, ComparatorPoint))


def test_a_failed_sample_is_kept_and_leaves_the_others_alone(column_task: Task, engine: Engine) -> None:
    undisturbed = run(column_task, engine)
    assert isinstance(column_task.point, ColumnPoint)
    bad = {
        column_task.point.deck(column_task.point.draw(3, index)).text: Failed(reason, f"said {reason}")
        for index, reason in ((2, "timeout"), (3, "crash"), (7, "no_convergence"), (15, "not_finite"), (9, "bad_deck"))
    }
    found = run(column_task, Stub(lambda deck: bad.get(deck.text) or engine.run([deck], timeout_s=60)[0]))
    failed = np.isin(np.arange(16), [2, 3, 7, 9, 15])
    assert [STATUS[code] for code in found.columns["status"][failed]] == [
        "timeout", "crash", "no_convergence", "bad_deck", "not_finite",
    ]  # fmt: skip
    assert found.failures[7] == "no_convergence: said no_convergence"
    assert set(found.failures) == {2, 3, 7, 9, 15}
    assert np.isnan(found.columns["bl_v"][failed]).all()
    assert (found.columns["flipped"][failed] == -1).all()
    for name, values in found.columns.items():
        np.testing.assert_array_equal(values[~failed], undisturbed.columns[name][~failed])


def test_a_gentle_read_flips_nothing(column_task: Task, engine: Engine) -> None:
    found = run(column_task, engine)
    assert (found.columns["status"] == 0).all()
    assert (found.columns["flipped"] == 0).all()
    assert found.failures == {}
    # Four rows of eight discharge 80 fF for 150 ps: the lines fall, and not to the ground.
    for line in ("bl_v", "blb_v"):
        assert ((found.columns[line] > 0.3) & (found.columns[line] < 0.98)).all()


def test_flipped_cells_are_recorded_with_their_values(tiny_recipe: Callable[..., Path], engine: Engine) -> None:
    """Word line at the supply for a nanosecond: the minority's cells lose what they store."""
    path = tiny_recipe(samples="16\nword_line_v = 1.0\npulse_s = 1e-9")
    tasks = plan(load_campaign(path), "39")
    task = next(t for t in tasks if isinstance(t.point, ColumnPoint) and t.point.n_minus == 1)
    found = run(replace(task, stop=4), engine)
    assert (found.columns["status"] == STATUS.index("flipped")).all()
    assert (found.columns["flipped"] >= 1).all()
    assert np.isfinite(found.columns["bl_v"]).all()
    assert found.failures[0] == f"flipped: {found.columns['flipped'][0]} cells"


def decided(deck: Deck, offset_v: float, vdd_v: float = 1.0) -> Result:
    """A perfect comparator with an offset: reads the input's differential from the deck itself."""
    levels = dict(line.split()[:4:3] for line in deck.text.splitlines() if line.startswith(("vinp ", "vinn ")))
    above = float(levels["vinp"]) - float(levels["vinn"]) > offset_v
    return Measured(np.array([[vdd_v], [0.0]]) if above else np.array([[0.0], [vdd_v]]))


@pytest.mark.parametrize("offset_v", [-0.31, -0.02345, 0.0, 0.0101, 0.3])
def test_the_bisection_finds_the_offset(comparator_task: Task, offset_v: float) -> None:
    stub = Stub(lambda deck: decided(deck, offset_v))
    point = replace(comparator_task.point, tolerance_v=0.5e-3)
    found = run(replace(comparator_task, point=point, stop=1), stub)
    assert found.columns["offset_v"][0] == pytest.approx(offset_v, abs=0.5e-3)
    # Two ends, and ten halvings until 0.64 V are less than 1 mV.
    assert len(stub.ran) == 2 + 10


def test_a_bracket_that_cannot_be_halved_ends(comparator_task: Task) -> None:
    """A tolerance below the spacing of numbers near the offset: some 50 halvings, then neighbours."""
    stub = Stub(lambda deck: decided(deck, 0.123))
    found = run(replace(comparator_task, point=replace(comparator_task.point, tolerance_v=1e-300), stop=1), stub)
    assert found.columns["offset_v"][0] == pytest.approx(0.123, abs=1e-6)
    assert len(stub.ran) < 70


def test_an_offset_beyond_the_range_is_said_so(comparator_task: Task) -> None:
    found = run(comparator_task, Stub(lambda deck: decided(deck, 0.5)))
    assert (found.columns["status"] == STATUS.index("out_of_range")).all()
    assert np.isnan(found.columns["offset_v"]).all()
    assert found.failures[0] == "out_of_range: decides -1 at -0.32 V and -1 at 0.32 V"


def test_a_comparator_that_cannot_decide_has_no_offset(comparator_task: Task) -> None:
    """Outputs that stay together at both ends are no decision."""
    found = run(replace(comparator_task, stop=1), Stub(lambda deck: Measured(np.array([[0.6], [0.5]]))))
    assert STATUS[found.columns["status"][0]] == "out_of_range"


def test_a_failure_in_the_middle_of_the_bisection_is_the_sample_s(comparator_task: Task) -> None:
    answers = iter(range(1000))
    stub = Stub(lambda deck: Failed("timeout", "late") if next(answers) == 3 else decided(deck, 0.01))
    found = run(replace(comparator_task, stop=3), stub)
    assert [STATUS[code] for code in found.columns["status"]] == ["timeout", "ok", "ok"]
    assert np.isnan(found.columns["offset_v"][0])
    assert found.failures == {0: "timeout: late"}
    # The failed one ends at once; the others take two ends and as many halvings as they need.
    assert len(stub.ran) == 4 + 2 * 4


def test_a_real_comparator(comparator_task: Task, engine: Engine) -> None:
    """Its offsets scatter by some 20 mV, and no two are the same."""
    point = replace(comparator_task.point, tolerance_v=0.5e-3)
    found = run(replace(comparator_task, point=point, stop=6), engine)
    assert (found.columns["status"] == 0).all()
    offsets = found.columns["offset_v"]
    assert len(set(offsets)) == 6
    assert 0.003 < offsets.std() < 0.1


def test_a_stop_is_seen_between_two_samples(column_task: Task) -> None:
    stub = Stub(lambda deck: Failed("timeout", "late"))
    task = replace(column_task, engine_version=stub.version)
    with pytest.raises(CancelledError):
        run_task(task, open_=lambda _: stub, stopped=lambda: len(stub.ran) == 3)
    assert len(stub.ran) == 3


def test_another_ngspice_than_the_key_s_runs_nothing(column_task: Task) -> None:
    stub = Stub(lambda deck: Failed("timeout", "late"), version="38")
    with pytest.raises(InputError, match="ngspice 38, expected 39 as where cosim runs"):
        run_task(replace(column_task, engine_version="39"), open_=lambda _: stub)
    assert not stub.ran
