"""`auto` finds a bias at which no cell flips and every line still counts; or says in one line that there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cosim import hdf5
from cosim.campaign import auto_bias, prepare
from cosim.campaign.auto_bias import DRAWS, FLOOR, SIGMAS, FoundBias, find_bias, run_bias
from cosim.campaign.cluster import _light, check_task
from cosim.campaign.collect import collect
from cosim.campaign.points import ColumnDraw, ColumnPoint, points_of
from cosim.campaign.prepare import bias_task
from cosim.campaign.recipe import Campaign, load_campaign
from cosim.campaign.schedule import schedule
from cosim.circuit.column import ColumnBench, column_bench, flipped_rows
from cosim.cli.plans import plan_lines
from cosim.errors import InputError, MeasuredWorseError
from cosim.spice.engine import Engine, Measured

AUTO = '\nc_bit_line_f = 10e-15\nword_line_v = "auto"\npulse_s = "auto"\n'


@pytest.fixture
def campaign(tiny_recipe: Callable[..., Path]) -> Campaign:
    return load_campaign(tiny_recipe(samples="16" + AUTO))


@pytest.fixture
def bench(campaign: Campaign) -> ColumnBench:
    return column_bench(campaign.cell, campaign.process, rows=8, c_bit_line_f=10e-15)


@pytest.fixture
def laws(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[ColumnBench], float]]:
    """Closed forms in the place of ngspice: cells flip above `edge` volts, and lines end at `lowest` volts."""
    laws: dict[str, Callable[[ColumnBench], float]] = {"edge": lambda b: 0.6, "lowest": lambda b: 0.5}

    def flips(self: object, point: ColumnPoint, draw: ColumnDraw) -> bool:
        # The draws' edges lie 20 mV to both sides of the law, so that their sigma is 20 mV and a little.
        side = 0.02 if point.n_minus == 1 else -0.02
        return point.bench.word_line_v > laws["edge"](point.bench) + side

    monkeypatch.setattr(auto_bias._Trial, "flips", flips)
    monkeypatch.setattr(auto_bias._Trial, "lowest_v", lambda self, bench: laws["lowest"](bench))
    return laws


class NoEngine:
    """Nothing runs on it."""

    name, version = "none", "0"

    def run(self, decks: object, *, timeout_s: float) -> list[Measured]:
        raise AssertionError

    def close(self) -> None:
        pass


def found(bench: ColumnBench, *auto: str) -> FoundBias:
    return find_bias(bench, auto, NoEngine())


# --- The search, against closed forms ---


def test_the_word_line_is_five_sigmas_below_the_edge(bench: ColumnBench, laws: dict[str, object]) -> None:
    """Edges of 0.58 and 0.62 V, eight each, found to 10 mV: mean 0.6, sigma 0.0207 by n - 1."""
    bias = found(bench, "word_line_v")
    mean_v, sigma_v = bias.edge_v
    assert mean_v == pytest.approx(0.6, abs=0.010)
    assert sigma_v == pytest.approx(0.02 * math.sqrt(2 * DRAWS / (2 * DRAWS - 1)), abs=0.005)
    assert 0 <= mean_v - SIGMAS * sigma_v - bias.word_line_v < 5e-3
    assert round(bias.word_line_v / 5e-3, 6) % 1 == 0
    assert bias.pulse_s == bench.pulse_s
    assert bias.lowest_v == 0.5


def test_a_line_at_the_ground_lowers_the_word_line(
    bench: ColumnBench, laws: dict[str, Callable[[ColumnBench], float]]
) -> None:
    laws["lowest"] = lambda b: 1.41 - 3 * b.word_line_v
    assert found(bench, "word_line_v").word_line_v == 0.4
    assert laws["lowest"](replace(bench, word_line_v=0.405)) < FLOOR


def test_the_longest_pulse_above_the_floor(bench: ColumnBench, laws: dict[str, Callable[[ColumnBench], float]]) -> None:
    laws["lowest"] = lambda b: 1.01 - 4e9 * b.pulse_s
    bias = found(bench, "pulse_s")
    assert bias.pulse_s == pytest.approx(200e-12)
    assert bias.word_line_v == bench.word_line_v
    assert "edge_mean_v" not in bias.figures()


def test_a_pulse_that_flips_cells_is_shortened_with_a_margin(
    bench: ColumnBench, laws: dict[str, Callable[[ColumnBench], float]]
) -> None:
    """At 0.5 V, the weaker draws flip from 0.52 V - 0.02 V on: after 300 ps here; four fifths of that are left."""
    laws["edge"] = lambda b: 0.52 if b.pulse_s < 302e-12 else 0.51
    laws["lowest"] = lambda b: 0.5 if b.pulse_s < 700e-12 else 0.1
    assert found(bench, "pulse_s").pulse_s == pytest.approx(240e-12)


def test_a_pulse_that_grew_has_the_edge_looked_for_again(
    bench: ColumnBench, laws: dict[str, Callable[[ColumnBench], float]]
) -> None:
    laws["edge"] = lambda b: 0.6 if b.pulse_s <= 150e-12 else 0.55
    laws["lowest"] = lambda b: 0.5 if b.pulse_s < 302e-12 else 0.1
    bias = found(bench, "word_line_v", "pulse_s")
    assert bias.pulse_s == pytest.approx(300e-12)
    assert bias.edge_v[0] == pytest.approx(0.55, abs=0.01)
    assert 0 <= bias.edge_v[0] - SIGMAS * bias.edge_v[1] - bias.word_line_v < 5e-3


def test_both_are_found_one_after_the_other(
    bench: ColumnBench, laws: dict[str, Callable[[ColumnBench], float]]
) -> None:
    laws["lowest"] = lambda b: 1.0 - 8e9 * b.word_line_v * b.pulse_s
    bias = found(bench, "word_line_v", "pulse_s")
    assert bias.word_line_v == found(bench, "word_line_v").word_line_v
    longest_s = 0.8 / 8e9 / bias.word_line_v
    assert 0 <= longest_s - bias.pulse_s < 5e-12


@pytest.mark.parametrize(
    ("edge", "lowest", "auto", "said"),
    [
        (lambda b: 0.2, lambda b: 0.5, ("word_line_v",), "cells flip at 0.3 V, the lowest allowed"),
        (lambda b: 0.36, lambda b: 0.5, ("word_line_v",), "would hold all cells, 0.3 V is the lowest allowed"),
        (lambda b: 0.6, lambda b: 0.1, ("word_line_v",), "ends below 0.2 V even at 0.3 V, for a pulse of 150 ps"),
        (lambda b: 0.6, lambda b: 0.1, ("pulse_s",), "a line ends below 0.2 V after 20 ps at a word-line voltage of"),
        (lambda b: 0.2, lambda b: 0.5, ("pulse_s",), "cells flip within 20 ps at a word-line voltage of 0.5 V"),
    ],
)  # fmt: skip
def test_no_safe_bias_is_said_so(
    edge: Callable[[ColumnBench], float],
    lowest: Callable[[ColumnBench], float],
    auto: tuple[str, ...],
    said: str,
    bench: ColumnBench,
    laws: dict[str, Callable[[ColumnBench], float]],
) -> None:
    laws |= {"edge": edge, "lowest": lowest}
    with pytest.raises(MeasuredWorseError, match=said):
        found(bench, *auto)


def test_the_search_stays_in_the_cell_s_range(
    bench: ColumnBench, laws: dict[str, Callable[[ColumnBench], float]]
) -> None:
    laws["edge"] = lambda b: 5.0
    ranges = replace(bench.cell.ranges, word_line_v=(0.3, 0.7), pulse_s=(20e-12, 300e-12))
    narrow = replace(bench, cell=replace(bench.cell, ranges=ranges))
    bias = found(narrow, "word_line_v", "pulse_s")
    assert 0.67 < bias.word_line_v < 0.7
    assert bias.pulse_s == pytest.approx(300e-12)
    free = replace(bench, cell=replace(bench.cell, ranges=replace(ranges, word_line_v=None, pulse_s=None)))
    assert 0.97 < found(free, "word_line_v").word_line_v < 1.0
    assert found(free, "pulse_s").pulse_s == pytest.approx(1e-9)


# --- In a campaign ---


def test_a_bias_that_is_found_is_kept_told_and_stored(
    campaign: Campaign, laws: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    search = prepare.run_bias
    monkeypatch.setattr(prepare, "run_bias", lambda task, stopped: searched.append(1) or search(task, stopped=stopped))
    before = schedule(campaign, tmp_path / "run", workers=1)
    assert before.operating[0].waits == ("bias",)
    assert "a safe bias of 1 operating point" in "\n".join(plan_lines(before))
    progress = list(collect(campaign, tmp_path / "run", workers=1))
    (told,) = [each.told for each in progress if each.told]
    content = hdf5.read(tmp_path / "run" / "samples.h5", filetype="cosim-samples", major=1)
    (point,) = json.loads(str(content.attributes["points"]))
    assert f"word line {point['word_line_v']:g} V, pulse {1e12 * point['pulse_s']:g} ps" in told
    assert set(point["auto"]) == {"edge_mean_v", "edge_sigma_v", "lowest_v"}
    assert list(collect(campaign, tmp_path / "run", workers=1))[-1].fresh == 0
    assert searched == [1]
    assert schedule(campaign, tmp_path / "run", workers=1).left_s == 0


def test_no_safe_bias_is_the_recipe_s_line(
    campaign: Campaign, laws: dict[str, Callable[[ColumnBench], float]], tmp_path: Path
) -> None:
    laws["edge"] = lambda b: 0.2
    with pytest.raises(InputError) as caught:
        list(collect(campaign, tmp_path / "run", workers=1))
    said = str(caught.value)
    assert said.startswith(f"{campaign.place}:17:1: tt 1 V 27 C, word line auto, pulse auto: no safe word-line voltage")
    assert "\n" not in said
    assert not (tmp_path / "run" / "samples.h5").exists()


def test_auto_is_for_cells_read_by_discharge(tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(cell='"xnor_8t_static"', samples='16\nword_line_v = "auto"')
    with pytest.raises(InputError, match=rf"{path}:16:1: word_line_v = auto is for cells read by discharge"):
        points_of(load_campaign(path))


def test_a_cluster_guards_and_compares_the_search(campaign: Campaign) -> None:
    task = _light(bias_task(campaign, "39", 0))
    check_task(task, "39")
    with pytest.raises(InputError, match="this cosim makes other samples"):
        check_task(replace(task, auto=("pulse_s",)), "39")


# --- For real ---


def test_a_real_bias_flips_nothing_and_is_the_same_again(campaign: Campaign, engine: Engine) -> None:
    """Other draws than the search's hold at what it found; well above the edge, they do not."""
    task = bias_task(campaign, engine.version, 0)
    bias = run_bias(task, open_=lambda _: engine)
    assert bias.failure == ""
    assert bias.word_line_v < bias.edge_v[0]
    assert FLOOR <= bias.lowest_v < FLOOR + 0.1, "5 ps more would be too long"
    bench = replace(task.point.bench, word_line_v=bias.word_line_v, pulse_s=bias.pulse_s)

    def flips(word_line_v: float, pulse_s: float) -> int:
        point = ColumnPoint(replace(bench, word_line_v=word_line_v, pulse_s=pulse_s), 1, 7, 1)
        draws = [point.draw(3, sample) for sample in range(6)]
        results = engine.run([point.deck(draw) for draw in draws], timeout_s=60)
        return sum(
            bool(flipped_rows(point.bench, draw.weights, result.values).any())
            for draw, result in zip(draws, results, strict=True)
            if isinstance(result, Measured)
        )

    assert flips(bias.word_line_v, bias.pulse_s) == 0
    # The edges are of the pulse that the search begins with, which is the cell's default.
    assert bias.pulse_s < task.point.bench.pulse_s
    assert flips(bias.edge_v[0] + 6 * bias.edge_v[1], task.point.bench.pulse_s) == 6
