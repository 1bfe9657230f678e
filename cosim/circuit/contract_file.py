"""A contract's file, to say where in it an error is."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cosim.errors import CosimError, InputError
from cosim.text_files import read_text


@dataclass(frozen=True, slots=True)
class ContractFile:
    """A contract's file, to say where in it an error is.

    Args:
        path: The file.
        problems: Where the checks write down what is wrong and go on; without it they stop at the first.
    """

    path: Path
    problems: list[CosimError] | None = None

    def error(self, keys: tuple[str | int, ...], message: str, hint: str | None = None) -> InputError:
        """An InputError at the line and column of a key; at its nearest parent where the key is missing."""
        from cosim.toml_places import key_places  # tree-sitter is needed only to tell where an error is.

        places = key_places(read_text(self.path))
        while keys and keys not in places:
            keys = keys[:-1]
        line, column = places.get(keys, (1, 1))
        return InputError(message, place=f"{self.path}:{line}:{column}", hint=hint)

    def require(self, name: str, known: Iterable[str], keys: tuple[str | int, ...], what: str) -> None:
        """Refuse a name that is not known.

        Raises:
            InputError: With the nearest known name, or the list of them.
        """
        names = list(known)
        if name not in names:
            lower = [name.lower()] if name.lower() in names else []
            close = lower or difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
            hint = f"netlists are read in lower case: write {lower[0]!r}" if lower else hint
            raise self.error(keys, f"{what} {name!r} is not in the subcircuit", hint)

    @contextmanager
    def part(self) -> Generator[None]:
        """One of several checks that do not depend on one another: its error does not stop the others."""
        try:
            yield
        except CosimError as error:
            if self.problems is None:
                raise
            self.problems.append(error)

    @contextmanager
    def at(self, keys: tuple[str | int, ...]) -> Generator[None]:
        """Gives errors of the block that know no line of a file the line of a key."""
        try:
            yield
        except InputError as error:
            if error.place is not None and ":" in error.place:
                raise
            message = f"{error.place}: {error.message}" if error.place else error.message
            raise self.error(keys, message, error.hint) from error
