"""Where a circuit lies: built in under a plain name, or in a folder of the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from cosim.circuit.names import folder_name
from cosim.errors import InputError
from cosim.resources import find


def circuit_folder(name_or_folder: str | Path, kind: Literal["bitcells", "sense", "process"]) -> Path:
    """The folder of a cell, a sense amplifier or a process.

    Args:
        name_or_folder: A built-in name, or the path of a folder. A string is a path if it has a separator ("./mine",
            "mine/"), begins with ~, or is "." or "..".
        kind: Which built-in folder the name is looked up in.

    Raises:
        InputError: There is no such built-in name, no such folder, or its name cannot be a circuit's.

    >>> circuit_folder("xnor_8t", "bitcells").name
    'xnor_8t'
    """
    if isinstance(name_or_folder, str) and not _is_path(name_or_folder):
        return find("netlists", kind, name_or_folder)
    try:
        path = Path(name_or_folder).expanduser()
        found = path.is_dir()
    except (RuntimeError, ValueError, OSError) as error:  # No such user, a NUL, a name too long.
        raise InputError(f"no such folder: {error}", place=str(name_or_folder)) from error
    if not found:
        raise InputError("no such folder", place=str(path), hint="give a folder or a built-in name")
    folder_name(path)
    return path


def _is_path(text: str) -> bool:
    separators = (os.sep, os.altsep or os.sep)
    return text in (".", "..") or text.startswith("~") or any(mark in text for mark in separators)
