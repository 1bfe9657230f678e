"""Level L2: the fast column's own numbers where it passes its check, the full circuit where not, and both told."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cosim import hdf5
from cosim.campaign import collect as collecting
from cosim.campaign import fast_level, prepare
from cosim.campaign.cluster import _light, check_task
from cosim.campaign.collect import Progress, collect, plan
from cosim.campaign.fast_level import FastLevel, checked_counts, level_of, pairs_off, run_fast
from cosim.campaign.points import ColumnPoint
from cosim.campaign.prepare import fast_task, prepared
from cosim.campaign.recipe import Campaign, load_campaign
from cosim.campaign.sampling import run_task
from cosim.campaign.schedule import schedule
from cosim.campaign.store import SampleStore
from cosim.cli.plans import plan_lines
from cosim.errors import InputError, MeasuredWorseError
from cosim.fast.build import build_fast_column
from cosim.fast.column import FastColumn
from cosim.spice.engine import Engine

L2 = '\nlevel = "L2"\nc_bit_line_f = 10e-15\nword_line_v = 0.45\npulse_s = 100e-12\n'
"""A load of eight rows' size."""
CORNERS = '[[point]]\nprocess = "ff"\n[[point]]\nprocess = "ss"\n'


@pytest.fixture(scope="module")
def text(tiny_text: Callable[..., str]) -> Callable[..., str]:
    """The tiny recipe at level L2."""

    def write(*, samples: str = "40", more: str = "", **changes: str) -> str:
        return tiny_text(samples=samples + L2, **changes) + more

    return write


@pytest.fixture
def campaign(text: Callable[..., str], tmp_path: Path) -> Campaign:
    return campaign_of(text(), tmp_path)


def campaign_of(text: str, folder: Path) -> Campaign:
    (folder / "fast.toml").write_text(text)
    return load_campaign(folder / "fast.toml")


@pytest.fixture(scope="module")
def column(text: Callable[..., str], tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> FastColumn:
    """A real fast column of eight rows, once for all tests; half the usual cells are enough here."""
    campaign = campaign_of(text(), tmp_path_factory.mktemp("column"))
    point = next(p for p in collecting.points_of(campaign) if isinstance(p, ColumnPoint))
    return build_fast_column(point.bench, engine, seed=campaign.recipe.seed, cells=120)


@pytest.fixture
def fake(column: FastColumn, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Building and checking take no time; `fake["bad"]` are counts out of bounds, `fake["flipped"]` with flips."""
    state: dict[str, Any] = {"bad": (), "flipped": (), "built": 0, "error": None}

    def build(bench: object, engine: object, *, seed: int = 0) -> FastColumn:
        state["built"] += 1
        if state["error"] is not None:
            raise state["error"]
        return column

    def check(fast: FastColumn, bench: Any, engine: object, *, draws: int, counts: tuple[int, ...], seed: int) -> Any:
        assert seed != 3, "other draws than those of the bank"
        error_v = np.full((len(counts), 3), 0.02e-3)
        error_v[np.isin(counts, state["bad"])] = 0.3e-3
        usable = np.where(np.isin(counts, state["flipped"]), 0.95, 1.0)
        within = (error_v <= 0.1e-3) & (usable == 1)[:, None]
        errors = {"bias_v": error_v, "rms_v": error_v, "within": within}
        errors |= {"mean_error_counts": error_v / 9.5e-3, "sigma_error": 0 * error_v}
        return SimpleNamespace(count=counts, usable=usable, bound_v=0.1e-3, **errors)

    monkeypatch.setattr(fast_level, "build_fast_column", build)
    monkeypatch.setattr(fast_level, "check", check)
    return state


def samples_of(run: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    content = hdf5.read(run / "samples.h5", filetype="cosim-samples", major=1)
    return {n: d.values for n, d in content.datasets.items()}, json.loads(str(content.attributes["points"]))


def told(progress: list[Progress]) -> str:
    return "\n".join(each.told for each in progress if each.told)


# --- The samples ---


def test_samples_are_the_fast_column_s_own(
    campaign: Campaign, column: FastColumn, fake: dict[str, Any], tmp_path: Path
) -> None:
    """Bit for bit what `read` gives for each sample's draw alone, whatever task it is in."""
    (done, *_, last) = collect(campaign, tmp_path / "run", workers=1)
    assert (done.stage, last.done, last.flipped, last.failed) == ("points", 240, 0, 0)
    table, (point,) = samples_of(tmp_path / "run")
    for each in collecting.points_of(campaign):
        assert isinstance(each, ColumnPoint)
        here = table["column_n_minus"] == each.n_minus
        for sample in (0, 17, 39):
            draw = each.draw(3, sample)
            (expected,) = column.read(draw.products[None], draw.weights[None], draw.vth_shift_v[None])
            at = here & (table["column_sample"] == sample)
            np.testing.assert_array_equal([table["column_bl_v"][at][0], table["column_blb_v"][at][0]], expected)
    assert (table["column_level"] == 2).all()
    assert not table["column_flipped"].any()
    assert point["level"] == "L2"
    assert point["l2_bias_mv"] == point["l2_rms_mv"] == 0.02
    assert (point["l2_bound_mv"], point["l2_draws"]) == (0.1, 20)
    assert "l2_reason" not in point
    assert "l0_pairs" not in point


def test_any_number_of_workers_and_any_stop_give_the_same_bits(
    text: Callable[..., str],
    fake: dict[str, Any],
    tmp_path: Path,
    hash_of: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collecting, "FAST_TASK_SAMPLES", 16)
    campaign = campaign_of(text(more=CORNERS, samples="24").replace('process = "tt"\n', ""), tmp_path)
    assert len(list(collect(campaign, tmp_path / "one", workers=1))) == 3 + 1 + 2 * 6 * 2
    list(collect(campaign, tmp_path / "two", workers=2))
    # Stopped while the operating points get ready, then while samples come.
    for stage, many in (("points", 1), ("samples", 40)):
        progress = collect(campaign, tmp_path / "stopped", workers=1)
        for each in progress:
            if each.stage == stage and each.done >= many:
                break
        progress.close()  # pyright: ignore[reportAttributeAccessIssue]
    before = fake["built"]
    list(collect(campaign, tmp_path / "stopped", workers=2))
    # The first stop may have lost one that was just being built.
    assert fake["built"] == before in (2 + 2 + 2, 2 + 2 + 3), "each operating point's once a folder"
    assert hash_of(tmp_path / "one") == hash_of(tmp_path / "two") == hash_of(tmp_path / "stopped")


def test_more_samples_keep_the_fast_column_and_what_is_there(
    text: Callable[..., str], fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "FAST_TASK_SAMPLES", 20)
    list(collect(campaign_of(text(), tmp_path), tmp_path / "run", workers=1))
    last = list(collect(campaign_of(text(samples="60"), tmp_path), tmp_path / "run", workers=1))[-1]
    assert (last.total, last.fresh, fake["built"]) == (360, 120, 1)


def test_samples_of_another_fast_column_are_others(
    campaign: Campaign, column: FastColumn, fake: dict[str, Any], tmp_path: Path
) -> None:
    """A fast column that was made again with other numbers must not be mixed with the old one's samples."""
    list(collect(campaign, tmp_path / "run", workers=1))
    (file,) = (tmp_path / "run" / "fast").iterdir()
    content = hdf5.read(file, filetype="cosim-fast-level", major=1)
    about = dict(content.attributes) | {"electrical_row_f": 0.21e-15}
    hdf5.write(file, hdf5.Content(about, content.datasets), filetype="cosim-fast-level", version=(1, 0))
    assert list(collect(campaign, tmp_path / "run", workers=1))[-1].fresh == 240


@pytest.mark.parametrize("damage", [b"", b"no HDF5"])
def test_a_damaged_fast_column_is_made_again(
    damage: bytes, campaign: Campaign, fake: dict[str, Any], tmp_path: Path, hash_of: Callable[[Path], str]
) -> None:
    list(collect(campaign, tmp_path / "run", workers=1))
    before = hash_of(tmp_path / "run")
    (file,) = (tmp_path / "run" / "fast").iterdir()
    file.write_bytes(damage)
    assert list(collect(campaign, tmp_path / "run", workers=1))[-1].fresh == 0, "the same numbers: the shards stay"
    assert fake["built"] == 2
    assert hash_of(tmp_path / "run") == before


# --- Falling back ---


def test_counts_beside_a_failed_check_are_simulated(
    text: Callable[..., str], fake: dict[str, Any], tmp_path: Path
) -> None:
    """The check is at 0, 2, 4, 6, 7 and 8: with 8 out of bounds, only counts above 7 are."""
    fake["bad"] = (8,)
    campaign = campaign_of(text(), tmp_path)
    progress = list(collect(campaign, tmp_path / "run", workers=1))
    table, (point,) = samples_of(tmp_path / "run")
    assert point["level"] == "L2"
    assert point["l0_pairs"] == [[8, 0]]
    assert point["l2_bias_mv"] == 0.02, "of the counts that it reads"
    assert "misses its bound of 0.1 mV at 8+0 rows on BL+BLB" in point["l2_reason"]
    assert "the full circuit reads 1 of 6 counts" in told(progress)
    np.testing.assert_array_equal(table["column_level"], np.where(table["column_n_minus"] == 8, 0, 2))
    again = list(collect(campaign, tmp_path / "run", workers=1))
    assert "the full circuit reads 1 of 6 counts" in told(again), "said at every run"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"flipped": (7,)}, "cells flipped, or ngspice failed, in 0.8 % of the columns of the check"),
        ({"bad": range(9)}, "the fast column misses its bound of 0.1 mV at every checked count"),
        ({"error": MeasuredWorseError("half of the cells flipped")}, "half of the cells flipped"),
        ({"error": InputError("no fast column of this style")}, "no fast column of this style"),
        ({"error": np.linalg.LinAlgError("singular")}, "singular"),
    ],
    ids=["flips", "check", "bank", "style", "fit"],
)
def test_a_fast_column_that_does_not_pass_is_not_used(
    state: dict[str, Any], said: str, campaign: Campaign, fake: dict[str, Any], engine: Engine
) -> None:
    fake |= state
    task = fast_task(campaign, engine.version, campaign.operating_points[0], 0)
    level = level_of(run_fast(task, open_=lambda _: engine))
    assert level.level == "L0"
    assert said in level.figures["l2_reason"]
    assert not any(level.fast_at((n, 8 - n)) for n in range(9))


def test_a_check_without_a_bound_can_be_kept(campaign: Campaign, fake: dict[str, Any], engine: Engine) -> None:
    """Where too few columns are usable there is no slope, so no bound in volts; JSON knows no NaN."""
    task = fast_task(campaign, engine.version, campaign.operating_points[0], 0)
    content = run_fast(task, open_=lambda _: engine)
    kept = dataclasses.replace(content, attributes=dict(content.attributes) | {"l2_bound_mv": float("nan")})
    json.dumps(dict(level_of(kept).figures), allow_nan=False)
    assert "l2_bound_mv" not in level_of(kept).figures


def test_a_column_with_flips_is_simulated_and_told(
    text: Callable[..., str], fake: dict[str, Any], tmp_path: Path
) -> None:
    fake["flipped"] = (7,)
    campaign = campaign_of(text(more="samples_l0 = 16\n"), tmp_path)
    progress = list(collect(campaign, tmp_path / "run", workers=2))
    table, (point,) = samples_of(tmp_path / "run")
    assert point["level"] == "L0"
    assert "L0; the full circuit reads 6 of 6 counts, as cells flipped" in told(progress)
    assert not table["column_level"].any()
    assert np.bincount(table["column_n_minus"]).max() == 16, "samples_l0, not samples"
    assert list(collect(campaign, tmp_path / "run", workers=1))[-1].fresh == 0
    assert fake["built"] == 1, "the refusal is kept"


def test_only_the_failing_operating_point_falls_back(
    text: Callable[..., str], fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fast_level.build_fast_column

    def build(bench: Any, engine: Any, *, seed: int = 0) -> FastColumn:
        if bench.corner.process == "ff":
            raise MeasuredWorseError("too fast")
        return good(bench, engine, seed=seed)

    monkeypatch.setattr(fast_level, "build_fast_column", build)
    campaign = campaign_of(text(more=CORNERS, samples="16").replace('process = "tt"\n', ""), tmp_path)
    progress = list(collect(campaign, tmp_path / "run", workers=2))
    table, points = samples_of(tmp_path / "run")
    assert [(point["process"], point["level"]) for point in points] == [("ff", "L0"), ("ss", "L2")]
    np.testing.assert_array_equal(table["column_level"], 2 * table["column_point"])
    assert "ff 1 V 27 C, word line 0.45 V, pulse 100 ps: level L0" in told(progress)


def test_neighbours_decide(column: FastColumn) -> None:
    good = {(0, 8): True, (4, 4): True, (8, 0): False, (2, 2): True}
    level = FastLevel(column, good, {})
    reads = [pair for pair in ((0, 8), (3, 5), (4, 4), (5, 3), (8, 0), (2, 2), (1, 3), (0, 5)) if level.fast_at(pair)]
    assert reads == [(0, 8), (3, 5), (4, 4), (2, 2)]
    assert FastLevel(None, good, {}).fast_at((0, 8)) is None


def test_what_is_checked() -> None:
    assert checked_counts(64) == (0, 16, 32, 48, 60, 64)
    assert pairs_off(((0, 64), (12, 20)), 64) == ((12, 20),)
    assert pairs_off(tuple((n, 16 - n) for n in range(17)), 64) == ((0, 16), (8, 8), (16, 0))


# --- For real ---


def test_a_real_fast_level(
    text: Callable[..., str],
    column: FastColumn,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a real check of a real column says is what the full circuit says of other draws.

    A good count's mean and rms are within 0.1 mV (the bound); 0.5 mV is a bias of that and four of its sigmas.
    """
    monkeypatch.setattr(fast_level, "CHECK_DRAWS", 4)
    monkeypatch.setattr(fast_level, "build_fast_column", lambda bench, engine, *, seed: column)
    campaign = campaign_of(text(more="active_rows = [4, 8]\n"), tmp_path)
    task = fast_task(campaign, engine.version, campaign.operating_points[0], 0)
    assert task.pairs == ((0, 4), (2, 2), (4, 0))
    level = level_of(run_fast(task, open_=lambda _: engine))
    assert level.fast is not None
    assert level.figures["l2_rms_mv"] <= 0.1
    assert [(row["n_minus"], row["n_plus"]) for row in level.figures["l2_table"]] == list(level.good)
    assert len(level.good) == 6 + 3
    point = next(p for p in collecting.points_of(campaign) if isinstance(p, ColumnPoint) and p.n_minus == 2)
    assert level.good[2, 6]
    draws = point.draws(99, 0, 4)
    fast_v = level.fast.read(draws.products, draws.weights, draws.vth_shift_v)
    for index in range(4):
        (result,) = engine.run([point.deck(point.draw(99, index))], timeout_s=60)
        np.testing.assert_allclose(fast_v[index], result.values[:2, -1], atol=0.5e-3, rtol=0)  # pyright: ignore


def test_building_ends_when_nobody_wants_it(campaign: Campaign, engine: Engine) -> None:
    task = fast_task(campaign, engine.version, campaign.operating_points[0], 0)
    with pytest.raises(CancelledError):
        run_fast(task, open_=lambda _: engine, stopped=lambda: True)


# --- Elsewhere ---


def test_a_cluster_guards_and_compares_fast_tasks_too(
    campaign: Campaign, fake: dict[str, Any], tmp_path: Path, engine: Engine
) -> None:
    version = engine.version
    build = fast_task(campaign, version, campaign.operating_points[0], 0)
    list(collect(campaign, tmp_path / "run", workers=1))
    read = plan(campaign, version, prepared(campaign, tmp_path / "run", version))[0]
    assert read.fast is not None
    for task in (build, read):
        light = pickle.loads(pickle.dumps(_light(task)))  # noqa: S301
        assert set(light.point.bench.process.models) == {"tt"}
        check_task(light, version)
        with pytest.raises(InputError, match="this cosim makes other samples of the same task"):
            check_task(replace(light, seed=4), version)
    other = replace(read.fast, electrical=replace(read.fast.electrical, row_f=0.3e-15))
    with pytest.raises(InputError, match="this cosim makes other samples"):
        check_task(replace(read, fast=other), version)
    # 150 kB with the surface of the fast column; its tables are made where it reads.
    assert len(pickle.dumps(_light(read))) < 300_000
    expected = SampleStore(tmp_path / "run").load(read)
    np.testing.assert_array_equal(run_task(_light(read)).columns["bl_v"], expected.columns["bl_v"])


def test_the_plan_says_what_is_built_before(campaign: Campaign, fake: dict[str, Any], tmp_path: Path) -> None:
    before = schedule(campaign, tmp_path / "run", workers=2)
    assert before.operating[0].waits == ("fast",)
    assert before.operating[0].left_s > 0
    assert {point.level for point in before.points} == {"L2"}
    assert sum(point.samples for point in before.points) == 240
    assert "the fast column of 1 operating point" in "\n".join(plan_lines(before))
    assert not (tmp_path / "run").exists()
    fake["bad"] = (8,)
    list(collect(campaign, tmp_path / "run", workers=1))
    after = schedule(campaign, tmp_path / "run", workers=2)
    assert after.left_s == 0
    assert [point.level for point in after.points] == ["L2"] * 5 + ["L0"]
    assert "misses its bound" in "\n".join(plan_lines(after))
    assert prepare.prepared(campaign, tmp_path / "run", "another ngspice")[0].waits == ("fast",)
