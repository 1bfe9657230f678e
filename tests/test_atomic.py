"""Folders that cannot be made are refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosim.atomic import make_folder
from cosim.errors import InputError


def test_a_folder_is_made_once_with_its_parents(tmp_path: Path) -> None:
    for _ in range(2):
        assert make_folder(tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["file", "file/below", "\0", "a" * 300, "/proc/cosim"])
def test_what_cannot_be_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"expected a folder, got a file|the folder cannot be made: "):
        make_folder(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
