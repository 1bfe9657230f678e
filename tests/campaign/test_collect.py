"""A collection: the same bits from any number of workers and from damaged or half-done folders."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Timer

import h5py
import numpy as np
import pytest
import xarray

from cosim import hdf5
from cosim.campaign import collect as collecting
from cosim.campaign.collect import Progress, collect, plan
from cosim.campaign.filetypes import STATUS
from cosim.campaign.points import ColumnPoint, ComparatorPoint
from cosim.campaign.recipe import Campaign, load_campaign
from cosim.campaign.sampling import Samples, Task
from cosim.campaign.store import SampleStore
from cosim.circuit.deck import Deck
from cosim.errors import InputError


@dataclass(frozen=True)
class Done:
    """A run that nothing disturbed."""

    campaign: Campaign
    folder: Path
    progress: list[Progress]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_text: Callable[..., str]) -> Done:
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = folder / "tiny.toml"
    recipe.write_text(tiny_text(comparator=True, samples="18"))
    campaign = load_campaign(recipe)
    return Done(campaign, folder / "run", list(collect(campaign, folder / "run", workers=1)))


@pytest.fixture
def copy(done: Done, tmp_path: Path) -> Path:
    """The finished run again, to be damaged."""
    return Path(shutil.copytree(done.folder, tmp_path / "copy"))


def simulated(progress: list[Progress]) -> int:
    return progress[-1].fresh


# --- Workers and executors ---


def test_two_workers_give_the_same_bits(done: Done, tmp_path: Path, hash_of: Callable[[Path], str]) -> None:
    progress = list(collect(done.campaign, tmp_path / "run", workers=2))
    assert simulated(progress) == 144
    assert hash_of(tmp_path / "run") == hash_of(done.folder)


def test_an_executor_of_processes_gives_the_same_bits(
    done: Done, tmp_path: Path, hash_of: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        progress = list(collect(done.campaign, tmp_path / "run", executor=executor))
    assert simulated(progress) == 144
    assert hash_of(tmp_path / "run") == hash_of(done.folder)
    assert not list(tmp_path.glob("cosim-ngspice-*")), "the processes removed their workers' folders"


def test_no_worker_is_refused(done: Done, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers = 0, expected at least 1"):
        next(collect(done.campaign, tmp_path / "run", workers=0))
    assert not (tmp_path / "run").exists()


# --- Progress ---


def test_progress_adds_up(done: Done) -> None:
    first, *rest = done.progress
    assert (first.done, first.total, first.fresh, first.rate) == (0, 144, 0, 0.0)
    assert math.isinf(first.left_s)
    assert len(rest) == len(plan(done.campaign, "39")) == 16, "one a task"
    assert [b.done - a.done for a, b in zip(done.progress, rest, strict=False)] == [
        task.stop - task.start for task in plan(done.campaign, "39")
    ]
    last = rest[-1]
    assert (last.done, last.fresh, last.failed, last.flipped) == (144, 144, 0, 0)
    assert last.left_s == 0
    assert last.rate == pytest.approx(144 / last.seconds)
    assert [p.seconds for p in done.progress] == sorted(p.seconds for p in done.progress)


def test_collecting_again_simulates_and_writes_nothing(done: Done) -> None:
    files = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.h5")}
    (only,) = collect(done.campaign, done.folder)
    assert (only.done, only.total, only.fresh) == (144, 144, 0)
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.h5")} == files


# --- Failures ---


def failing(run: Path, task: Task, **status: int) -> None:
    """The run's shard with failures in it: `timeout=3` makes sample 3 of the task one."""
    store = SampleStore(run)
    samples = store.load(task)
    columns = {name: values.copy() for name, values in samples.columns.items()}
    failures: dict[int, str] = {}
    for reason, index in status.items():
        columns["status"][index] = STATUS.index(reason)
        if reason != "flipped":
            columns["bl_v"][index] = columns["blb_v"][index] = np.nan
        failures[task.start + index] = f"{reason}: said so"
    store.save(Samples(task, columns, failures))


@pytest.mark.parametrize("reason", ["timeout", "crash"])
def test_what_the_machine_may_have_caused_is_tried_again(
    reason: str, done: Done, copy: Path, hash_of: Callable[[Path], str]
) -> None:
    before, task = hash_of(copy), plan(done.campaign, engine_version(copy))[0]
    failing(copy, task, **{reason: 3})
    assert not SampleStore(copy).has(task)
    progress = list(collect(done.campaign, copy, workers=1))
    assert (progress[0].done, simulated(progress), progress[-1].failed) == (144 - 16, 16, 0)
    assert hash_of(copy) == before


def test_what_fails_again_is_taken(done: Done, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = plan(done.campaign, engine_version(copy))[0]
    failing(copy, task, timeout=3)
    failed = SampleStore(copy).load(task)
    monkeypatch.setattr(collecting, "run_task", lambda task, stopped: failed)
    progress = list(collect(done.campaign, copy, workers=1))
    assert (progress[-1].done, progress[-1].failed, progress[-1].failure) == (144, 1, "1 timeout: said so")
    content = hdf5.read(copy / "samples.h5", filetype="cosim-samples", major=1)
    assert (content.datasets["column_status"].values == STATUS.index("timeout")).sum() == 1
    assert json.loads(str(content.attributes["failures"])) == [[task.point.label, 3, "timeout: said so"]]


def test_failures_and_flips_of_earlier_calls_count(done: Done, copy: Path) -> None:
    tasks = plan(done.campaign, engine_version(copy))
    failing(copy, tasks[0], no_convergence=3, flipped=5)
    failing(copy, tasks[2], not_finite=1, no_convergence=4)
    SampleStore(copy)._shard(tasks[4]).unlink()
    first, *_, last = collect(done.campaign, copy, workers=1)
    assert (first.fresh, first.failed, first.flipped) == (0, 3, 1)
    assert (last.fresh, last.failed, last.flipped) == (16, 3, 1)
    assert last.failure == "2 no_convergence: said so"


@pytest.mark.parametrize("failures", ["[" * 20_000 + "]" * 20_000, "[1]", '{"x": "y"}', "{"])
def test_a_shard_with_unreadable_failures_is_done_again(failures: str, done: Done, copy: Path) -> None:
    store, task = SampleStore(copy), plan(done.campaign, engine_version(copy))[0]
    path = store._shard(task)
    content = hdf5.read(path, filetype="cosim-shard", major=1)
    about = dict(content.attributes) | {"failures": failures}
    hdf5.write(path, hdf5.Content(about, content.datasets), filetype="cosim-shard", version=(1, 0))
    assert not store.has(task)
    with pytest.raises(InputError, match="failures are not one text a sample"):
        store.load(task)


@pytest.mark.parametrize("name", ["bl_v", "blb_v", "flipped", "status"])
def test_a_shard_without_a_column_is_done_again(name: str, done: Done, copy: Path) -> None:
    store, task = SampleStore(copy), plan(done.campaign, engine_version(copy))[0]
    path = store._shard(task)
    content = hdf5.read(path, filetype="cosim-shard", major=1)
    left = {key: data for key, data in content.datasets.items() if key != name}
    hdf5.write(path, hdf5.Content(content.attributes, left), filetype="cosim-shard", version=(1, 0))
    assert not store.has(task)
    with pytest.raises(InputError, match=f"the shard has no {name} of each sample"):
        store.load(task)


@pytest.mark.parametrize("circuit", ["column", "comparator"])
def test_a_deck_that_ngspice_refuses_stops_before_the_first_sample(
    circuit: str, done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo in a netlist: said once, with ngspice's words, and not once a sample."""
    kind = {"column": ColumnPoint, "comparator": ComparatorPoint}[circuit]
    nominal = kind.nominal_deck

    def broken(point: ColumnPoint | ComparatorPoint) -> Deck:
        deck = nominal(point)  # pyright: ignore[reportArgumentType]
        return replace(deck, text=deck.text.replace(".end\n", "m99 a b c d no_such_model w=1u l=1u\n.end\n"))

    monkeypatch.setattr(kind, "nominal_deck", broken)
    with pytest.raises(InputError, match=r"ngspice refuses .*no_such_model") as caught:
        list(collect(done.campaign, tmp_path / "run", workers=1))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "shards").exists()


# --- Half done, damaged, more ---


def test_a_recipe_of_other_words_is_merged_again(done: Done, copy: Path, tmp_path: Path) -> None:
    """The same samples: nothing to simulate, but the file quotes the recipe."""
    recipe = tmp_path / "said_otherwise.toml"
    recipe.write_text("# A remark\n" + done.campaign.text)
    campaign = load_campaign(recipe)
    assert simulated(list(collect(campaign, copy))) == 0
    about = hdf5.read(copy / "samples.h5", filetype="cosim-samples", major=1).attributes
    assert about["recipe"] == campaign.text


def test_the_merged_file_is_made_again(done: Done, copy: Path, hash_of: Callable[[Path], str]) -> None:
    before = hash_of(copy)
    for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-100])):
        damage(copy / "samples.h5")
        assert simulated(list(collect(done.campaign, copy))) == 0
        assert hash_of(copy) == before


def damages() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    yield "cut", lambda raw: raw[: len(raw) // 2]
    yield "empty", lambda raw: b""
    yield "text", lambda raw: b"no HDF5 at all"
    yield "link", lambda raw: linked()
    yield "zeros", lambda raw: raw[:1000] + bytes(len(raw) - 1000)


def linked() -> bytes:
    """What the reader refuses as unsafe: here it is only a shard that is not whole."""
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        file["sample"] = h5py.ExternalLink("/etc/passwd", "/")
        file.flush()
        return file.id.get_file_image()


@pytest.mark.parametrize(("name", "damage"), list(damages()))
def test_a_damaged_shard_is_done_again(
    name: str, damage: Callable[[bytes], bytes], done: Done, copy: Path, hash_of: Callable[[Path], str]
) -> None:
    before, shard = hash_of(copy), sorted((copy / "shards").iterdir())[3]
    shard.write_bytes(damage(shard.read_bytes()))
    (copy / "samples.h5").unlink()
    progress = list(collect(done.campaign, copy, workers=1))
    assert simulated(progress) in (2, 16)
    assert hash_of(copy) == before


def test_no_flipped_byte_of_a_shard_passes_or_stops_the_run(done: Done, copy: Path) -> None:
    """Whatever the damage looks like, even like an attack: the shard counts as missing."""
    store = SampleStore(copy)
    task = plan(done.campaign, engine_version(copy))[0]
    path = store._shard(task)
    raw = path.read_bytes()
    assert store.has(task)
    good = store.load(task)
    for at in range(0, len(raw), 37):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        if store.has(task):  # in padding that no reader looks at
            again = store.load(task)
            assert all(np.array_equal(again.columns[n], v, equal_nan=True) for n, v in good.columns.items()), at


def engine_version(run: Path) -> str:
    return str(hdf5.read(run / "samples.h5", filetype="cosim-samples", major=1).attributes["engine_version"])


def test_a_shard_of_another_task_is_not_taken(done: Done, copy: Path) -> None:
    store, tasks = SampleStore(copy), plan(done.campaign, engine_version(copy))
    shutil.copy(store._shard(tasks[0]), store._shard(tasks[2]))
    assert store.has(tasks[0])
    assert not store.has(tasks[2])


def test_more_samples_and_points_keep_what_is_there(
    done: Done, copy: Path, tiny_text: Callable[..., str], tmp_path: Path
) -> None:
    recipe = tmp_path / "more.toml"
    recipe.write_text(tiny_text(comparator=True, samples="20", n_minus="[0, 1, 2, 3, 4, 6, 8]"))
    before = table(copy)
    progress = list(collect(load_campaign(recipe), copy, workers=2))
    # 9 points of 20, of which 8 have their first 16 (the shard of samples 16 and 17 is of another size).
    assert progress[-1].total == 9 * 20
    assert simulated(progress) == 9 * 20 - 8 * 16
    after = table(copy)
    assert len(after) > len(before)
    assert all(after[key] == value for key, value in before.items())


def table(run: Path) -> dict[tuple[float, ...], tuple[float, ...]]:
    data = hdf5.read(run / "samples.h5", filetype="cosim-samples", major=1).datasets
    names = ("column_n_minus", "column_n_plus", "column_sample", "column_bl_v", "column_blb_v")
    rows = np.stack([data[name].values.astype(float) for name in names], axis=1)
    return {tuple(row[:3]): tuple(row[3:]) for row in rows}


def test_what_a_kill_left_half_written_is_swept_away(done: Done, copy: Path) -> None:
    left = [copy / "shards" / ".0123456789ab-x.h5.tmp", copy / ".0123456789ab-samples.h5.tmp"]
    kept = [copy / "notes.tmp", copy / ".mine.tmp"]
    for path in (*left, *kept):
        path.write_text("x")
    list(collect(done.campaign, copy))
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_stopping_the_iterator_keeps_what_is_done(done: Done, tmp_path: Path, hash_of: Callable[[Path], str]) -> None:
    run = tmp_path / "run"
    progress = collect(done.campaign, run, workers=1)
    for each in progress:
        if each.fresh >= 40:
            break
    progress.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not (run / "samples.h5").exists()
    again = list(collect(done.campaign, run, workers=2))
    assert again[0].done == each.fresh
    assert simulated(again) == 144 - each.fresh
    assert hash_of(run) == hash_of(done.folder)


def test_stopping_does_not_wait_for_whole_tasks(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may take minutes; between two of its samples it is told to stop."""

    def endless(task: Task, *, stopped: Callable[[], bool]) -> Samples:
        while not stopped():
            time.sleep(0.01)
            assert time.monotonic() - began < 20
        raise CancelledError

    began = time.monotonic()
    monkeypatch.setattr(collecting, "run_task", endless)
    progress = collect(done.campaign, tmp_path / "run", workers=2)
    next(progress)
    interrupt = Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        next(progress)
    interrupt.join()
    assert time.monotonic() - began < 10


# --- Folders ---


def test_two_runs_in_one_folder_are_refused(done: Done, tmp_path: Path) -> None:
    first = collect(done.campaign, tmp_path / "run", workers=1)
    next(first)
    with pytest.raises(InputError, match="another run is at work in this folder"):
        next(collect(done.campaign, tmp_path / "run"))
    first.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_folder_that_cannot_be_made_is_refused(done: Done, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "run", Path("/sys/cosim")):
        with pytest.raises(InputError, match="cannot write here") as caught:
            next(collect(done.campaign, out))
        assert str(out) in str(caught.value)


# --- The file ---


def test_the_file_says_what_it_is_made_of(done: Done) -> None:
    content = hdf5.read(done.folder / "samples.h5", filetype="cosim-samples", major=1)
    about = content.attributes
    assert about["recipe"] == done.campaign.text
    assert about["recipe_sha256"] == sha256(done.campaign.text.encode()).hexdigest()
    assert about["engine"] == "ngspice (shared)"
    assert (about["seed"], about["rows"], about["cell"], about["process"]) == (3, 8, "xnor_8t", "generic65")
    for name in ("process", "cell", "amplifier_strongarm"):
        text = str(about[f"netlist_{name}"])
        assert about[f"netlist_{name}_sha256"] == sha256(text.encode()).hexdigest()
    assert ".subckt xnor_8t" in str(about["netlist_cell"])
    assert json.loads(str(about["failures"])) == []
    assert not any("/" in str(value) and str(done.folder.parent) in str(value) for value in about.values())


def test_xarray_opens_the_file(done: Done) -> None:
    with xarray.open_dataset(done.folder / "samples.h5", engine="h5netcdf") as data:
        assert data["column_bl_v"].dims == ("column_read",)
        assert data["column_bl_v"].attrs["units"] == "V"
        assert data.sizes["column_read"] == 6 * 18
        means = data["column_bl_v"].groupby(data["column_n_minus"]).mean()
        assert (means.diff("column_n_minus") < 0).all()
