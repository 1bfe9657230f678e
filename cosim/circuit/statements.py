"""Netlist text into statements: comments dropped, continuations joined, odd characters refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cosim.errors import InputError, UnsafeError

# ngspice ends a line at these; so do we, even where one of them stands inside quotes.
_COMMENT = re.compile(r";|(?:^|[\s,])\$(?:\s|$)|(?:^|\s)//")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PLAIN = re.compile(r"[\t !\"%-\[\]^_a-z{|}~#]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Statement:
    """One card: a physical line and its `+` continuations.

    Args:
        place: The file's name.
        line: The number of its first line, from 1.
        pieces: The text of each physical line, without comments and the `+`.
    """

    place: str
    line: int
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole card on one line."""
        return " ".join(self.pieces)

    @property
    def where(self) -> str:
        """File and line, for error messages."""
        return f"{self.place}:{self.line}"

    @property
    def written(self) -> str:
        """The card as it goes into a deck: one physical line a piece."""
        return "\n+ ".join(self.pieces)


def statements(text: str, place: str) -> Iterator[Statement]:
    """The statements of a netlist, in order.

    Raises:
        UnsafeError: A control character, a script mark or a character that no card needs.
        InputError: A continuation without a card to continue.

    >>> [s.text for s in statements("* title\\nr1 a b\\n+ 1k $ load", "x.cir")]
    ['r1 a b 1k']
    """
    first, pieces = 0, list[str]()
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = _without_comment(raw, f"{place}:{number}")
        if line.startswith("+"):
            if not pieces:
                raise InputError("a continuation (+) without a card before it", place=f"{place}:{number}")
            pieces.append(line[1:].strip())
        elif line:
            if pieces:
                yield Statement(place, first, tuple(filter(None, pieces)))
            first, pieces = number, [line]
    if pieces:
        yield Statement(place, first, tuple(filter(None, pieces)))


def _without_comment(raw: str, where: str) -> str:
    """A line without its comment and outer blanks; empty for a comment line."""
    if _CONTROL_CHARACTER.search(raw):
        raise UnsafeError("a control character (NUL, a lone carriage return, ...)", place=where)
    line = raw.strip(" \t")
    if line.startswith("*"):
        if line[1:].lstrip().lower().startswith("ng_script"):
            raise UnsafeError("*ng_script makes ngspice run the file as commands", place=where)
        return ""
    found = _COMMENT.search(line)
    line = line[: found.start()].rstrip(" \t,") if found else line
    plain = _PLAIN.match(line)
    if plain is None or plain.end() != len(line):
        odd = line[plain.end() if plain else 0]
        raise UnsafeError(f"the character {odd!r} outside a comment", place=where, hint="write plain ASCII cards")
    return line
