"""The errors that a user can cause or meet; each knows its exit code and says what to do."""

from __future__ import annotations

import re

# Colours and other commands to a terminal, whole; then what is left of control characters and marks that turn the
# direction of writing, and halves of characters, which no terminal can print.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class CosimError(Exception):
    """Base of all errors that this library raises on purpose.

    Args:
        message: What came and what was expected.
        place: Where: a file, with line and column where they are known ("cell.toml:12:3").
        hint: What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, place: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.place = place
        self.hint = hint
        super().__init__(message, place, hint)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors come back from worker processes and machines as what they are."""
        return (_again, (type(self), self.message, self.place, self.hint))

    def __str__(self) -> str:
        """One line: place, message, hint; without control characters, whatever file or name they came from.

        >>> print(InputError("width_m must be positive, got -1", place="cell.toml:3:1", hint="give metres"))
        cell.toml:3:1: width_m must be positive, got -1 (give metres)
        """
        place, message, hint = (_plain(text or "") for text in (self.place, self.message, self.hint))
        return f"{f'{place}: ' if place else ''}{message}{f' ({hint})' if hint else ''}"


class InputError(CosimError):
    """Wrong input: a recipe, a contract, a file or an argument. Exit code 2."""

    exit_code = 2


class MeasuredWorseError(CosimError):
    """A check measured worse than it was asked to. Exit code 3."""

    exit_code = 3


class UnsafeError(CosimError):
    """Input refused because it could run code or reach outside its folder. Exit code 4."""

    exit_code = 4


class EngineMissingError(CosimError):
    """ngspice is missing or too old. Exit code 5."""

    exit_code = 5


def _plain(text: str) -> str:
    return _UNPRINTABLE.sub("", " ".join(_ESCAPES.sub("", text).split()))


def _again(kind: type[CosimError], message: str, place: str | None, hint: str | None) -> CosimError:
    return kind(message, place=place, hint=hint)
