"""Where a circuit lies: built in under a plain name, or in a folder of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cosim.errors import InputError
from cosim.resources import find


def circuit_folder(name_or_folder: str | Path, kind: Literal["bitcells", "sense", "process"]) -> Path:
    """The folder of a cell, a sense amplifier or a process.

    Args:
        name_or_folder: A built-in name, or the path of a folder; a folder of that name comes first only when
            the path has a separator or is a Path.
        kind: Which built-in folder the name is looked up in.

    Raises:
        InputError: There is no such built-in name, or no such folder.

    >>> circuit_folder("xnor_8t", "bitcells").name
    'xnor_8t'
    """
    path = Path(name_or_folder).expanduser()
    if isinstance(name_or_folder, str) and len(path.parts) == 1 and name_or_folder not in (".", ".."):
        return find("netlists", kind, name_or_folder)
    if not path.is_dir():
        raise InputError("no such folder", place=str(path), hint="give a folder or a built-in name")
    return path
