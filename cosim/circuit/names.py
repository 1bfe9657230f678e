"""Names out of contracts and folders that are written into decks, files and messages: nothing but plain ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cosim.errors import InputError

Word = Annotated[str, Field(pattern=r"^[A-Za-z_][0-9A-Za-z_]*$")]
"""A name in a netlist: a node, an element, a parameter, a model, a subcircuit."""

CornerName = Annotated[str, Field(pattern=r"^[0-9A-Za-z_][0-9A-Za-z_.+\-]*$")]
"""A corner, or a section of a library."""

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Free text or a path, on one line and without control characters."""

_FOLDER = re.compile(r"\w[\w .,+()\-]{0,99}")
_CORNER = re.compile(r"\w[\w.+\-]{0,99}", re.ASCII)


def folder_name(folder: Path) -> str:
    """The name of a circuit's folder, which is the circuit's.

    Raises:
        InputError: It is more than letters, digits, blanks and _ . , + - ( ), or longer than 100 characters.

    >>> folder_name(Path("cells/mine"))
    'mine'
    """
    name = folder.resolve().name
    if not _FOLDER.fullmatch(name):
        hint = "rename it: letters, digits, blanks and _ . , + - ( ), beginning with a letter or digit"
        raise InputError(f"the folder's name {name[:60]!r} cannot be a circuit's", place=str(folder), hint=hint)
    return name


def check_corner_name(name: str, *, place: str | None = None) -> str:
    """The name of a process corner, if it is plain.

    Raises:
        InputError: It is not.

    >>> check_corner_name("tt_25c")
    'tt_25c'
    """
    if not _CORNER.fullmatch(name):
        hint = "letters, digits and _ . + -, as in tt or ss_hot"
        raise InputError(f"{name[:60]!r} cannot be the name of a process corner", place=place, hint=hint)
    return name
