"""The shared engine's worker: killed, hung, replaced, and closed in; it never costs more than a deck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import simple_decks as decks

from cosim.circuit.deck import Deck
from cosim.spice import shared
from cosim.spice.batch import BatchEngine
from cosim.spice.engine import Failed, Measured
from cosim.spice.shared import SharedEngine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the workers' private folders come to lie."""
    folder = tmp_path / "workers"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def own(folder: Path) -> Iterator[SharedEngine]:
    """An engine of the test's own."""
    engine = SharedEngine()
    yield engine
    engine.close()


def pid_of(engine: SharedEngine) -> int:
    worker = engine._worker
    assert worker is not None
    return worker._process.pid


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_worker_killed_in_the_middle_of_a_deck_costs_nothing(own: SharedEngine) -> None:
    own.run([decks.rc()], timeout_s=30)
    first = pid_of(own)
    killer = threading.Timer(0.15, os.kill, (first, signal.SIGKILL))
    killer.start()
    (result,) = own.run([decks.slow()], timeout_s=30)
    killer.join()
    assert isinstance(result, Measured), result
    assert pid_of(own) != first
    assert not is_alive(first)


def test_a_deck_that_always_kills_its_worker_costs_itself_only(
    own: SharedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    ask = shared._Worker.ask

    def deadly(worker: shared._Worker, deck: Deck, timeout_s: float):
        if deck == decks.comparator():
            tries.append(worker._process.pid)
            os.kill(worker._process.pid, signal.SIGKILL)
        return ask(worker, deck, timeout_s)

    monkeypatch.setattr(shared._Worker, "ask", deadly)
    before, crashed, after = own.run([decks.rc(), decks.comparator(), decks.rc()], timeout_s=30)
    assert isinstance(crashed, Failed)
    assert crashed.reason == "crash"
    assert len(set(tries)) == 2, "tried once more in a new worker, and then given up"
    assert isinstance(before, Measured)
    assert isinstance(after, Measured)
    assert (before.values == after.values).all()


def test_the_worker_is_replaced_after_some_decks(folder: Path) -> None:
    engine = SharedEngine(recycle_after=2)
    pids: list[int] = []
    for _ in range(5):
        (result,) = engine.run([decks.rc()], timeout_s=30)
        assert isinstance(result, Measured)
        pids.append(pid_of(engine))
        assert len(list(folder.iterdir())) == 1
    engine.close()
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert not any(is_alive(pid) for pid in pids)


def test_a_hung_worker_is_ended_at_the_time_out(own: SharedEngine) -> None:
    own.run([decks.rc()], timeout_s=30)
    pid = pid_of(own)
    os.kill(pid, signal.SIGSTOP)
    (result,) = own.run([decks.rc()], timeout_s=0.3)
    assert result == Failed("timeout", "no result within 0.3 s")
    assert not is_alive(pid)
    assert isinstance(own.run([decks.rc()], timeout_s=30)[0], Measured)


def test_the_private_folder_goes_with_the_worker(own: SharedEngine, folder: Path) -> None:
    own.run([decks.rc()], timeout_s=30)
    pid = pid_of(own)
    (private,) = folder.iterdir()
    assert list(private.iterdir()) == []
    assert private.stat().st_mode & 0o077 == 0, "nobody else may look in"
    assert Path(os.readlink(f"/proc/{pid}/cwd")) == private
    seen = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert f"HOME={private}".encode() in seen
    own.close()
    assert list(folder.iterdir()) == []
    assert not is_alive(pid)
    # It may be used again, and the garbage collector cleans up as well.
    own.run([decks.rc()], timeout_s=30)
    del own._worker
    own._worker = None
    assert list(folder.iterdir()) == []


def test_no_start_file_of_the_user_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ngspice runs `.spiceinit` of the working folder and of HOME, shell commands included."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".spiceinit").write_text(f"shell touch {home}/was_run\n")
    (home / "deck.cir").write_text(decks.RC)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    subprocess.run(["ngspice", "-b", "deck.cir"], cwd=home, env=environment, capture_output=True, check=False)
    assert (home / "was_run").exists(), "the bait works"
    (home / "was_run").unlink()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    for engine in (SharedEngine(), BatchEngine()):
        assert isinstance(engine.run([decks.rc()], timeout_s=30)[0], Measured)
        engine.close()
        assert not (home / "was_run").exists(), engine.name


def test_a_busy_worker_dies_with_its_parent(tmp_path: Path) -> None:
    """Idle, it would end by its closed input; in the middle of hours of computing only the system can end it."""
    code = (
        "from cosim.circuit.deck import Deck; from cosim.spice.shared import SharedEngine\n"
        "engine = SharedEngine(); engine.version; print(engine._worker._process.pid, flush=True)\n"
        f"engine.run([{decks.endless()!r}], timeout_s=60)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert eventually(lambda: " R " in Path(f"/proc/{worker}/stat").read_text())
    time.sleep(0.1)
    parent.kill()
    parent.communicate()
    assert eventually(lambda: not is_alive(worker))


def test_memory_stays_flat(own: SharedEngine) -> None:
    """Without `remcirc` these 200 columns add more than the 2 MiB that are allowed for the allocator's slack."""

    def resident_bytes() -> int:
        pages = int(Path(f"/proc/{pid_of(own)}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    deck = decks.column()
    own.run([deck] * 40, timeout_s=30)
    before = resident_bytes()
    results = own.run([deck] * 200, timeout_s=30)
    assert all(isinstance(result, Measured) for result in results)
    assert resident_bytes() - before < 2 << 20
