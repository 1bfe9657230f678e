"""A Dask cluster of real processes on loopback: the same bits with a worker killed, and clear refusals."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from cosim.campaign.cluster import _light, check_task, open_cluster
from cosim.campaign.collect import collect, plan
from cosim.campaign.points import ColumnPoint
from cosim.campaign.recipe import Campaign, load_campaign
from cosim.campaign.sampling import Task
from cosim.errors import InputError, UnsafeError

Start = Callable[..., subprocess.Popen[str]]


# --- A cluster of processes ---


@pytest.fixture(scope="module")
def start_dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts `dask scheduler` or `dask worker`; `start_dask("worker", address, preload="code")`."""
    folder = tmp_path_factory.mktemp("dask")
    running: list[subprocess.Popen[str]] = []

    def start(kind: str, *arguments: str, preload: str = "", **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dask", kind, *arguments, "--host", "127.0.0.1"]
        command += ["--dashboard-address", "127.0.0.1:0"]
        if kind == "worker":
            command += ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder)]
        if preload:
            code = folder / f"preload{len(running)}.py"
            code.write_text(preload)
            command += ["--preload", str(code)]
        with (folder / f"{kind}{len(running)}.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=os.environ | environment, stdout=log, stderr=log, text=True
            )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def new_scheduler(start_dask: Start, folder: Path, **environment: str) -> tuple[str, subprocess.Popen[str]]:
    """A scheduler's address and its process."""
    file = folder / "scheduler.json"
    process = start_dask("scheduler", "--port", "0", "--scheduler-file", str(file), **environment)
    end = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    with Client(scheduler_file=str(file), set_as_default=False) as client:
        return client.scheduler.address, process


@pytest.fixture(scope="module")
def scheduler(start_dask: Start, tmp_path_factory: pytest.TempPathFactory) -> str:
    return new_scheduler(start_dask, tmp_path_factory.mktemp("scheduler"))[0]


@pytest.fixture
def workers(start_dask: Start, scheduler: str) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """Starts so many workers on the scheduler and waits for them; they end with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(count: int, *, preload: str = "") -> list[subprocess.Popen[str]]:
        started.extend(start_dask("worker", scheduler, preload=preload) for _ in range(count))
        with Client(scheduler, set_as_default=False) as client:
            client.wait_for_workers(len(started), timeout=60)
        return started

    yield begin
    for process in started:
        process.kill()
        process.wait()
    with Client(scheduler, set_as_default=False) as client:
        wait_until(lambda: not client.nthreads())


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def tasks_on(address: str) -> int:
    """Tasks that a scheduler knows."""
    with Client(address, set_as_default=False) as client:
        return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


@pytest.fixture
def campaign(tiny_recipe: Callable[..., Path]) -> Campaign:
    return load_campaign(tiny_recipe(comparator=True, samples="32"))


# --- The same bits ---


def test_a_killed_worker_changes_no_bit(
    campaign: Campaign,
    scheduler: str,
    workers: Callable[..., list[subprocess.Popen[str]]],
    tmp_path: Path,
    hash_of: Callable[[Path], str],
) -> None:
    doomed, _ = workers(2)
    killed_at = 0
    with open_cluster(scheduler) as executor:
        assert executor.width == 2
        for progress in collect(campaign, tmp_path / "cluster", executor=executor):
            if progress.fresh >= 48 and not killed_at:
                # Both workers have tasks: all sixteen were handed out, and three are done.
                doomed.send_signal(signal.SIGKILL)
                killed_at = progress.fresh
    assert doomed.wait() == -signal.SIGKILL
    assert 48 <= killed_at < progress.fresh == 256
    list(collect(campaign, tmp_path / "local", workers=1))
    assert hash_of(tmp_path / "cluster") == hash_of(tmp_path / "local")


def test_the_command_line_runs_on_a_cluster(
    scheduler: str,
    workers: Callable[..., list[subprocess.Popen[str]]],
    tiny_recipe: Callable[..., Path],
    cosim: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    workers(1)
    done = cosim("characterize", tiny_recipe(), "--out", "run", "--cluster", scheduler)
    assert done.returncode == 0, done.stderr
    assert f"{scheduler}: 1 ngspice processes" in done.stderr
    assert "96 samples in run/samples.h5: 96 simulated now" in done.stdout
    assert tasks_on(scheduler) == 0


# --- Stopping ---


def test_stopping_cancels_what_is_left_on_the_cluster(
    campaign: Campaign, scheduler: str, workers: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    workers(1)
    with open_cluster(scheduler) as executor:
        progress = collect(campaign, tmp_path / "run", executor=executor)
        next(progress)
        next(progress)
        assert tasks_on(scheduler) >= 10
        progress.close()  # pyright: ignore[reportAttributeAccessIssue]
        wait_until(lambda: tasks_on(scheduler) == 0)
    kept = len(list((tmp_path / "run" / "shards").iterdir()))
    assert next(collect(campaign, tmp_path / "run", workers=1)).done == 16 * kept


def test_ctrl_c_cancels_what_is_left_on_the_cluster(
    scheduler: str,
    workers: Callable[..., list[subprocess.Popen[str]]],
    tiny_recipe: Callable[..., Path],
    tmp_path: Path,
) -> None:
    workers(1)
    command = ["characterize", str(tiny_recipe(samples="512")), "--out", "run", "--cluster", scheduler]
    process = subprocess.Popen(
        [sys.executable, "-c", "from cosim.cli import main; main()", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list(tmp_path.glob("run/shards/[!.]*.h5")))
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert said.splitlines()[-1] == "cosim: stopped; run the same command again to go on"
    assert "Traceback" not in said
    wait_until(lambda: tasks_on(scheduler) == 0)


def test_a_running_task_stops_when_nobody_waits_for_it(
    campaign: Campaign, scheduler: str, workers: Callable[..., list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    """Also when the client died: a task may take minutes, and the worker has others to serve."""
    workers(1)
    began, ended = tmp_path / "began", tmp_path / "ended"

    def endless(task: Task, *, stopped: Callable[[], bool]) -> None:
        began.touch()
        while not stopped():
            time.sleep(0.01)
        ended.touch()

    with open_cluster(scheduler) as executor:
        future = executor.submit(endless, first_task(campaign))
        wait_until(began.exists)
        assert not ended.exists()
        future.cancel()
        wait_until(ended.exists)


def test_a_lost_scheduler_is_one_line(campaign: Campaign, start_dask: Start, tmp_path: Path) -> None:
    address, process = new_scheduler(start_dask, tmp_path)
    start_dask("worker", address)
    began = time.monotonic()
    with pytest.raises(InputError, match="the connection to the cluster was lost") as caught:
        collect_on(address, campaign, tmp_path / "run", then=process.kill)
    assert address in str(caught.value)
    assert time.monotonic() - began < 60
    assert len(list((tmp_path / "run" / "shards").iterdir())) >= 1


def test_a_task_that_kills_its_workers_is_one_line(campaign: Campaign, start_dask: Start, tmp_path: Path) -> None:
    address, _ = new_scheduler(start_dask, tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    start_dask("worker", address)

    def deadly(task: Task, *, stopped: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(InputError, match="1 workers died of one task, the last at tcp:"), open_cluster(address) as ex:
        ex.submit(deadly, first_task(campaign)).result()


def collect_on(address: str, campaign: Campaign, out: Path, *, then: Callable[[], object] = lambda: None) -> None:
    """Collect on a cluster; after the first task, `then` happens."""
    with open_cluster(address) as executor:
        for progress in collect(campaign, out, executor=executor):
            if progress.fresh == 16:
                then()


def first_task(campaign: Campaign) -> Task:
    return plan(campaign, "39")[0]


# --- Refused ---

OTHER_NGSPICE = """
from cosim.spice.shared import SharedEngine
SharedEngine.version = property(lambda self: "38+")
"""
NO_COSIM = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "cosim":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""
OTHER_NUMPY = """
from importlib import metadata
metadata.version = lambda name, was=metadata.version: "1.0" if name == "numpy" else was(name)
"""
OTHER_DECKS = """
from cosim.campaign import points
points.FORMAT = -1
"""


@pytest.mark.parametrize(
    ("preload", "said"),
    [
        (OTHER_NGSPICE, r"worker tcp://[\d.:]+: ngspice 38\+, expected .+ as where cosim runs \(install the same"),
        (NO_COSIM, r"worker tcp://[\d.:]+: cannot run cosim: .*No module named 'cosim.*\(install cosim .* and"),
        (
            OTHER_NUMPY,
            r"worker tcp://[\d.:]+: has cosim .*, numpy 1\.0 and scipy .*, expected cosim .* as where cosim runs",
        ),
        (OTHER_DECKS, r"worker tcp://[\d.:]+: this cosim makes other samples of the same task \(install the same"),
    ],
    ids=["ngspice", "no cosim", "numpy", "decks"],
)
def test_a_worker_that_differs_is_refused(
    preload: str,
    said: str,
    campaign: Campaign,
    scheduler: str,
    workers: Callable[..., list[subprocess.Popen[str]]],
    tmp_path: Path,
) -> None:
    workers(1, preload=preload)
    with pytest.raises(InputError, match=said):
        collect_on(scheduler, campaign, tmp_path / "run")
    assert not list((tmp_path / "run").glob("shards/*"))


@pytest.mark.parametrize(
    ("preload", "said"),
    [
        (OTHER_NUMPY, r"worker tcp://.*: has cosim .*, numpy 1\.0"),
        (NO_COSIM, r"a worker cannot run cosim: .*No module named 'cosim"),
    ],
    ids=["numpy", "no cosim"],
)
def test_a_worker_that_joins_late_is_refused_too(
    preload: str,
    said: str,
    campaign: Campaign,
    scheduler: str,
    workers: Callable[..., list[subprocess.Popen[str]]],
    tmp_path: Path,
) -> None:
    def join_late() -> None:
        with open_cluster(scheduler) as executor:
            assert executor.width == 0
            workers(1, preload=preload)
            list(collect(campaign, tmp_path / "run", executor=executor))

    with pytest.raises(InputError, match=said):
        join_late()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:1", "no answer within 0.5 s"),
        ("nonsense", "missing port number"),
        ("gopher://127.0.0.1:1", "unknown address scheme"),
        ("", "missing port number"),
    ],
)
def test_an_address_without_a_scheduler_is_refused(address: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=said) as caught, open_cluster(address, timeout_s=0.5):
        pass
    assert "expected a Dask scheduler that is running, such as tcp://10.0.0.1:8786" in str(caught.value)
    assert time.monotonic() - began < 10


def test_a_missing_dask_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"a cluster needs Dask \(pip install 'cosim\[cluster\]'\)"):
        open_cluster("tcp://127.0.0.1:1").__enter__()


def test_workers_and_cluster_exclude_each_other(
    tiny_recipe: Callable[..., Path], cosim: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = cosim("characterize", tiny_recipe(), "--workers", "2", "--cluster", "tcp://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("cosim: both --workers and --cluster were given")


# --- What a worker is sent ---


def test_a_worker_guards_the_netlists_again(campaign: Campaign) -> None:
    task = first_task(campaign)
    check_task(task, "39")
    assert isinstance(task.point, ColumnPoint)
    process = task.point.bench.process
    models = {corner: f"{text}\n.control\nshell id\n.endc\n" for corner, text in process.models.items()}
    hostile = replace(
        task, point=replace(task.point, bench=replace(task.point.bench, process=replace(process, models=models)))
    )
    with pytest.raises(UnsafeError, match=r"'\.control' is no line of a deck"):
        check_task(hostile, "39")


def test_a_task_takes_one_corner_s_models_along(campaign: Campaign) -> None:
    for task in plan(campaign, "39"):
        assert len(task.point.bench.process.models) == 5
        light = _light(task)
        assert set(light.point.bench.process.models) == {"tt"}
        check_task(light, "39")  # which sees that it is the same task
        assert len(pickle.dumps(light)) < 10_000


# --- The page ---


def test_the_page_s_local_cluster_runs_as_it_stands(tiny_recipe: Callable[..., Path], tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert '"quick"' in block
    # Only the recipe is a smaller one.
    (tmp_path / "page.py").write_text(block.replace('"quick"', repr(str(tiny_recipe()))))
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "runs/a/samples.h5"
    assert (tmp_path / "runs" / "a" / "samples.h5").is_file()
