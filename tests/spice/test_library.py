"""Where ngspice is missing, broken or too old, one line says what to install; exit code 5."""

from __future__ import annotations

import ctypes.util
import sys
from pathlib import Path

import pytest
import simple_decks as decks

from cosim.errors import EngineMissingError
from cosim.spice import library
from cosim.spice.engine import open_engine
from cosim.spice.library import check_version, find_library, find_program, program_version
from cosim.spice.shared import SharedEngine


@pytest.fixture(autouse=True)
def _fresh_versions():
    program_version.cache_clear()
    yield
    program_version.cache_clear()


def says_what_to_install(error: EngineMissingError) -> bool:
    text = str(error)
    assert "\n" not in text
    return error.exit_code == 5 and all(part in text for part in ("apt-get install ngspice", "brew", "conda"))


def test_the_library_is_found_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NGSPICE_LIBRARY_PATH", raising=False)
    found = find_library()
    assert "ngspice" in found.name
    monkeypatch.setenv("NGSPICE_LIBRARY_PATH", str(found))
    assert find_library() == found


def test_a_named_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NGSPICE_LIBRARY_PATH", str(tmp_path / "libngspice.so"))
    with pytest.raises(EngineMissingError, match=r"NGSPICE_LIBRARY_PATH names .*, which is no file") as caught:
        open_engine("shared")
    assert says_what_to_install(caught.value)


def test_no_library_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NGSPICE_LIBRARY_PATH", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(library, "_FOLDERS", ())
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(EngineMissingError, match="shared library is missing") as caught:
        open_engine("shared")
    assert says_what_to_install(caught.value)


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libngspice.so"
    broken.write_bytes(b"\x7fELF and no more")
    monkeypatch.setenv("NGSPICE_LIBRARY_PATH", str(broken))
    engine = SharedEngine()
    with pytest.raises(EngineMissingError, match="does not start") as caught:
        engine.run([decks.rc()], timeout_s=10)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("version", ["35", "26+", "", "unknown"])
def test_old_versions_are_refused(version: str) -> None:
    with pytest.raises(EngineMissingError, match="too old, expected 36 or later") as caught:
        check_version(version)
    assert says_what_to_install(caught.value)


@pytest.mark.parametrize("version", ["36", "39", "42+", "45.2"])
def test_new_versions_are_taken(version: str) -> None:
    check_version(version)


def test_a_library_that_is_too_old_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "MINIMUM_VERSION", 1000)
    engine = SharedEngine()
    for _ in range(2):  # asking again does not get round it
        with pytest.raises(EngineMissingError, match="too old"):
            engine.run([decks.rc()], timeout_s=10)


def test_a_program_that_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ngspice").write_text("#!/bin/sh\necho '** ngspice-34 : Circuit level simulation program'\n")
    (tmp_path / "ngspice").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissingError, match="ngspice 34 is too old") as caught:
        open_engine("batch")
    assert says_what_to_install(caught.value)


def test_a_program_that_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ngspice").write_bytes(b"\x7fELF and no more")
    (tmp_path / "ngspice").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissingError, match="does not run"):
        open_engine("batch")


def test_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineMissingError, match="not on the PATH") as caught:
        open_engine("batch")
    assert says_what_to_install(caught.value)
    monkeypatch.undo()
    assert find_program().name == "ngspice"
