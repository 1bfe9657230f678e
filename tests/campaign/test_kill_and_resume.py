"""kill -9 at any moment, and the next run ends at the same bits; Ctrl-C and SIGTERM leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COSIM = [sys.executable, "-c", "from cosim.cli import main; main()"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command line in the background, with temporary files below the test's folder."""
    running: list[subprocess.Popen[str]] = []
    (tmp_path / "temporary").mkdir()

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(
                [*COSIM, *map(str, arguments)],
                cwd=tmp_path,
                env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def shards(run: Path) -> int:
    return len(list(run.glob("shards/[!.]*.h5")))


def workers_in(folder: Path) -> list[int]:
    """Live processes whose working folder lies below a folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_killed_anywhere_and_resumed_gives_the_same_bits(
    tiny_recipe: Callable[..., Path],
    start: Callable[..., subprocess.Popen[str]],
    cosim: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    hash_of: Callable[[Path], str],
) -> None:
    recipe, run = tiny_recipe(), tmp_path / "killed"
    # Killed before the first shard, after the second, and after the fifth of six.
    for done in (0, 2, 5):
        process = start("characterize", recipe, "--out", run, "--workers", "1")
        wait_for(lambda done=done: (run / ".lock").exists() and shards(run) >= done, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (run / "samples.h5").exists()
    resumed = cosim("characterize", recipe, "--out", run, "--workers", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert "96 samples in" in resumed.stdout
    assert "96 simulated now" not in resumed.stdout
    undisturbed = cosim("characterize", recipe, "--out", tmp_path / "undisturbed", "--workers", "2")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert "96 simulated now" in undisturbed.stdout
    assert hash_of(run) == hash_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_at_once_and_clean_up(
    sent: signal.Signals,
    tiny_recipe: Callable[..., Path],
    start: Callable[..., subprocess.Popen[str]],
    cosim: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    recipe, run = tiny_recipe(samples="32"), tmp_path / "run"
    process = start("characterize", recipe, "--out", run, "--workers", "2")
    wait_for(lambda: shards(run) >= 1, process)
    assert workers_in(tmp_path / "temporary")
    began = time.monotonic()
    process.send_signal(sent)
    out, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert out == ""
    # Under the line of progress that names the campaign.
    assert said.splitlines()[1:] == ["cosim: stopped; run the same command again to go on"]
    assert not workers_in(tmp_path / "temporary")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not list(run.rglob("*.tmp"))
    kept = shards(run)
    resumed = cosim("characterize", recipe, "--out", run)
    assert resumed.returncode == 0, resumed.stderr
    assert f"192 samples in {run}/samples.h5: {192 - 16 * kept} simulated now" in resumed.stdout


def test_a_second_run_in_the_same_folder_is_refused(
    tiny_recipe: Callable[..., Path],
    start: Callable[..., subprocess.Popen[str]],
    cosim: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    recipe, run = tiny_recipe(samples="512"), tmp_path / "run"
    process = start("characterize", recipe, "--out", run, "--workers", "1")
    wait_for(lambda: (run / "shards").exists(), process)
    second = cosim("characterize", recipe, "--out", run)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"cosim: {run}: another run is at work in this folder (wait for it, or choose another folder)"
    )
    process.kill()
    process.communicate()
    # A killed run's lock does not outlive it.
    third = cosim("characterize", tiny_recipe(name="short"), "--out", run)
    assert third.returncode == 0, third.stderr
