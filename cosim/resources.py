"""What this machine has: the data folders that ship with the package, and the cores that may be used.

In a wheel they lie in `cosim/_data`; in a source checkout they are the top-level folders themselves.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal

from cosim.errors import InputError

Kind = Literal["netlists", "characterization", "models"]

_PACKAGE = Path(__file__).resolve().parent
_LISTED = 12


def data_folder(kind: Kind) -> Path:
    """The folder of built-in netlists, recipes or models.

    Raises:
        InputError: The folder is neither in the package nor beside it (a broken installation).

    >>> data_folder("netlists").name
    'netlists'
    """
    shipped, checkout = _PACKAGE / "_data" / kind, _PACKAGE.parent / kind
    for folder in (shipped, checkout):
        if folder.is_dir():
            return folder
    raise InputError(f"the built-in folder {kind!r} is missing", place=str(shipped), hint="install the package again")


def find(kind: Kind, *parts: str) -> Path:
    """The path of a built-in file or folder, for example `find("netlists", "bitcells", "xnor_8t")`.

    Args:
        kind: One of the three data folders.
        parts: Names below it, one a level; each is a plain name without a separator.

    Raises:
        InputError: A part is no plain name, or nothing has that name; the names that exist are listed.
    """
    path = data_folder(kind)
    for part in parts:
        _refuse_path(part, path)
        names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
        if part not in names:
            raise _unknown(part, names, path)
        path = path / part
    return path


def _refuse_path(part: str, folder: Path) -> None:
    if part in ("", ".", "..") or any(c in part for c in "/\\:\0"):
        raise InputError(
            f"expected a plain name, got {part!r}",
            place=folder.name,
            hint="a file or folder of your own is given by its path",
        )


def _unknown(part: str, names: list[str], folder: Path) -> InputError:
    visible = [name for name in names if not name.startswith((".", "__"))]
    close = difflib.get_close_matches(part, visible, n=1)
    listed = ", ".join(visible[:_LISTED]) + (", ..." if len(visible) > _LISTED else "")
    hint = f"did you mean {close[0]!r}? " if close else ""
    return InputError(
        f"there is no {part!r}",
        place=folder.name,
        hint=f"{hint}there is: {listed}" if visible else "it is empty",
    )


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
