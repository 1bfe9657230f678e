"""Collection ends at a point when its standard error is as asked for: on its first batches, whoever ran them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosim import hdf5
from cosim.campaign import collect as collecting
from cosim.campaign.collect import Progress, collect, plan
from cosim.campaign.design import generator_of
from cosim.campaign.points import ColumnPoint
from cosim.campaign.recipe import FEWEST_BATCHES, load_campaign
from cosim.campaign.sampling import Samples, Task, controls_of
from cosim.campaign.stopping import Rounds
from cosim.campaign.store import SampleStore
from cosim.errors import InputError

SLOPE_V, LINEAR_V, REST_V = 0.05, 10e-3, 2e-3
"""What the stand-in column does: volts a count, and the spread that the draw tells and that it does not."""

Write = Callable[..., Path]


@pytest.fixture
def recipe(tiny_recipe: Write) -> Write:
    """Writes a tiny recipe with a table [sampling]."""

    def write(sampling: str, *, name: str = "tiny", **changes: str) -> Path:
        path = tiny_recipe(name=name, **{"samples": "512", **changes})
        path.write_text(f"{path.read_text()}\n[sampling]\n{sampling}\n")
        return path

    return write


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Columns that need no ngspice; the tasks that ran."""
    tasks: list[tuple[str, int]] = []

    def run(task: Task, **_: Any) -> Samples:
        tasks.append((task.point.label, task.start))
        return stand_in(task)

    monkeypatch.setattr(collecting, "run_task", run)
    return tasks


def stand_in(task: Task) -> Samples:
    """Lines that fall with their count, with a known spread; the rows that pull BLB scatter three times as much."""
    point, index = task.point, np.arange(task.start, task.stop)
    assert isinstance(point, ColumnPoint)
    controls = controls_of(task)
    rest = np.array([generator_of(9, point.identity, i).standard_normal(2) for i in range(task.start, task.stop)])
    lines = {}
    for line, (name, count, worse) in enumerate((("bl", point.n_minus, 1), ("blb", point.n_plus, 3))):
        pulled = float(count > 0) * worse
        told = LINEAR_V * controls[f"control_{name}"][:, 4]
        lines[f"{name}_v"] = 1 - SLOPE_V * count + pulled * (told + REST_V * rest[:, line])
    about = {"sample": index.astype(np.int32), "status": np.zeros(index.size, np.uint8)}
    return Samples(task, about | lines | {"flipped": np.zeros(index.size, np.int16)} | controls, {})


def table_of(run: Path) -> dict[str, np.ndarray]:
    return {name: data.values for name, data in content_of(run).datasets.items()}


def content_of(run: Path) -> hdf5.Content:
    return hdf5.read(run / "samples.h5", filetype="cosim-samples", major=1)


def last(progress: Iterator[Progress]) -> Progress:
    return list(progress)[-1]


def test_points_stop_when_they_are_known(recipe: Write, tmp_path: Path) -> None:
    """BLB's rest is 6 mV: 0.5 mV takes 144 independent samples (scattering by a fifth), in tasks of 16; where it has
    no row that pulls, BL's 2 mV is all and the fewest batches do."""
    path = recipe("standard_error_v = 0.5e-3")
    done = last(collect(load_campaign(path), tmp_path / "run", workers=2))
    sizes = {each.label: each.samples for each in done.endings}
    assert sizes["column, 8 rows on BL and 0 on BLB"] == 16 * FEWEST_BATCHES
    others = [size for label, size in sizes.items() if "and 0 on" not in label]
    assert len(others) == 5
    assert all(96 <= size <= 224 and size % 16 == 0 for size in others)
    assert done.total == done.done == sum(sizes.values()) == table_of(tmp_path / "run")["column_sample"].size
    for each in done.endings:
        assert each.reached
        assert max(each.error_v.values()) <= 0.5e-3
        assert set(each.error_v) == {"bl", "blb", "difference"}
    assert json.loads(str(content_of(tmp_path / "run").attributes["stopping"])) == [e.as_json() for e in done.endings]


def test_it_is_the_smallest_number_of_tasks(recipe: Write, tmp_path: Path) -> None:
    """One task less misses the error that was asked for."""
    from cosim.campaign.stopping import signal_moments

    campaign = load_campaign(recipe("standard_error_v = 0.5e-3"))
    done = last(collect(campaign, tmp_path / "run"))
    tasks = plan(campaign, engine_version(tmp_path / "run"))
    for ending in done.endings:
        mine = [stand_in(task) for task in tasks if task.point.label == ending.label]
        count = ending.samples // 16
        worst = [max(m.mean_error for m in signal_moments(mine[:n]).values()) for n in range(4, count + 1)]
        assert worst[-1] <= 0.5e-3
        assert all(error > 0.5e-3 for error in worst[:-1])


def test_however_many_tasks_run_at_a_time(recipe: Write, tmp_path: Path) -> None:
    """All of them at once end where they end one after the other."""
    campaign = load_campaign(recipe("standard_error_v = 0.5e-3", samples="320"))
    done = last(collect(campaign, tmp_path / "run"))
    tasks = plan(campaign, engine_version(tmp_path / "run"))
    rounds = Rounds(tasks, campaign.recipe.sampling)
    for place in rounds._places.values():  # pyright: ignore[reportPrivateUsage]
        place.upto = len(place.tasks)
    for task in rounds.next():
        rounds.add(stand_in(task))
    assert rounds.next() == []
    assert rounds.endings() == done.endings


def engine_version(run: Path) -> str:
    return str(content_of(run).attributes["engine_version"])


def test_neither_workers_nor_a_stop_change_the_samples(
    recipe: Write, tmp_path: Path, hash_of: Callable[[Path], str]
) -> None:
    campaign = load_campaign(recipe('method = "latin"\nstandard_error_v = 0.7e-3'))
    list(collect(campaign, tmp_path / "one", workers=1))
    list(collect(campaign, tmp_path / "eight", workers=8))
    stopped = collect(campaign, tmp_path / "stopped", workers=2)
    for _ in range(27):
        next(stopped)
    stopped.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not (tmp_path / "stopped" / "samples.h5").exists()
    list(collect(campaign, tmp_path / "stopped", workers=2))
    assert hash_of(tmp_path / "one") == hash_of(tmp_path / "eight") == hash_of(tmp_path / "stopped")
    again = list(collect(campaign, tmp_path / "one"))
    assert (again[-1].fresh, len(again[-1].endings)) == (0, 6)


def test_what_is_there_is_used_again(recipe: Write, tmp_path: Path, ran: list[tuple[str, int]]) -> None:
    """A tightened error runs no task twice; a relaxed one runs none, and takes fewer samples."""
    list(collect(load_campaign(recipe("standard_error_v = 0.9e-3")), tmp_path / "run"))
    size = table_of(tmp_path / "run")["column_sample"].size
    list(collect(load_campaign(recipe("standard_error_v = 0.6e-3")), tmp_path / "run"))
    assert len(ran) == len(set(ran))
    assert table_of(tmp_path / "run")["column_sample"].size > size
    before = len(ran)
    list(collect(load_campaign(recipe("standard_error_v = 0.9e-3")), tmp_path / "run"))
    assert len(ran) == before
    assert table_of(tmp_path / "run")["column_sample"].size == size


def test_counts_are_turned_into_volts(recipe: Write, tmp_path: Path) -> None:
    """50 mV a count: a hundredth of one is 0.5 mV on a line, and 1 mV in the difference, which both lines move."""
    rows_off = "512\nrows_off = [{ n_minus = 3, n_plus = 2 }]"
    done = last(collect(load_campaign(recipe("standard_error_counts = 0.01", samples=rows_off)), tmp_path / "run"))
    assert len(done.endings) == 7
    for each in done.endings:
        for name, volts in (("bl", SLOPE_V), ("blb", SLOPE_V), ("difference", 2 * SLOPE_V)):
            # The slopes are those of the first batches' means, whose errors are below a millivolt.
            assert each.error_counts[name] == pytest.approx(each.error_v[name] / volts, rel=0.05)
            assert each.error_counts[name] <= 0.01


def test_the_most_samples_end_it_and_are_told(recipe: Write, tmp_path: Path) -> None:
    done = last(collect(load_campaign(recipe("standard_error_v = 1e-4", samples="96")), tmp_path / "run"))
    assert {each.samples for each in done.endings} == {96}
    assert not any(each.reached for each in done.endings)
    assert done.total == 6 * 96


def test_without_an_error_to_reach_nothing_stops(recipe: Write, tmp_path: Path) -> None:
    done = last(collect(load_campaign(recipe('method = "sobol"', samples="80")), tmp_path / "run"))
    assert (done.done, done.total, done.endings) == (480, 480, ())
    table = table_of(tmp_path / "run")
    assert "stopping" not in content_of(tmp_path / "run").attributes
    np.testing.assert_array_equal(table["column_batch"], table["column_sample"] // 16)


def test_independent_samples_are_their_own_batches(recipe: Write, tmp_path: Path) -> None:
    list(collect(load_campaign(recipe('method = "random"', samples="20")), tmp_path / "run"))
    table = table_of(tmp_path / "run")
    np.testing.assert_array_equal(table["column_batch"], table["column_sample"])
    assert table["column_control_bl"].shape == (120, 16)


def test_a_shard_without_controls_gets_them_from_its_draws(
    recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hash_of: Callable[[Path], str]
) -> None:
    """As version 1.0 wrote them."""
    campaign = load_campaign(recipe('method = "random"', samples="16"))
    list(collect(campaign, tmp_path / "new"))

    def old(task: Task, **_: Any) -> Samples:
        samples = stand_in(task)
        return Samples(task, {n: v for n, v in samples.columns.items() if "control" not in n}, {})

    monkeypatch.setattr(collecting, "run_task", old)
    list(collect(campaign, tmp_path / "old"))
    tasks = plan(campaign, engine_version(tmp_path / "new"))
    assert "control_bl" in SampleStore(tmp_path / "old").load(tasks[0]).columns
    assert hash_of(tmp_path / "old") == hash_of(tmp_path / "new")


@pytest.mark.parametrize(
    ("sampling", "samples", "said"),
    [
        ("standard_error_v = 1e-3\nstandard_error_counts = 0.1", "512", "expected one of them"),
        ("standard_error_v = 1e-3", "48", "the most with a standard error to stop at, expected at least 64"),
        ("standard_error_v = 0.0", "512", "greater than 0"),
        ('method = "latin"', "40", "samples = 40, expected a multiple of 16 for method latin"),
        ('method = "halton"', "64", "'random', 'sobol' or 'latin'"),
        ("standard_errors_v = 1e-3", "512", "did you mean 'standard_error_v'?"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(recipe: Write, sampling: str, samples: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_campaign(recipe(sampling, samples=samples))
    assert said in str(caught.value)
    assert "tiny.toml:" in str(caught.value)
