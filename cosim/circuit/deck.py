"""A deck: the complete text that ngspice runs, and what is read from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cosim.errors import UnsafeError

_CARDS = (
    "subckt|ends|model|param|global|ic|nodeset|func|if|elseif|else|endif|options?"  # of parts
    "|save|tran|end"  # of benches
)
# A line: blank; a comment, but none of those that ngspice takes for commands (`*#`, `*ng_script`); a continuation; a
# card; an element, but none of XSPICE (A, U). Possessive: a text of any length is passed over once.
_LINES = re.compile(
    r"(?:[ \t]*+(?:"
    r"\*(?!#|[ \t]*+(?i:ng_?script))[^\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]*+"
    rf"|(?:\+[ \t]|\.(?i:{_CARDS})(?![0-9A-Za-z_])|[B-TV-Zb-tv-z])[\t !#%-\[\]^_a-z{{|}}~]*+"
    r")?+\n)*+"
)
_PROBE = re.compile(r"[\w.#]+", re.ASCII)
_NOT_IN_TITLES = re.compile(r"[^0-9A-Za-z_.,:+\- ]")


@dataclass(frozen=True, slots=True)
class Deck:
    """A self-contained netlist with its transient analysis, and its read-out.

    ngspice runs commands that stand in a netlist. The parts of a deck are checked where they are read (`guard`); that
    every line of the whole has an expected form is the second fence.

    Args:
        text: The complete netlist; no includes; ends with `.end` and a line end.
        probes: Names of the saved nodes, lower case.
        times_s: When every probe is read, in seconds.

    Raises:
        UnsafeError: A line is no element, comment or card that a deck may hold, or a probe is no plain name.

    >>> Deck("* title\\n.control\\nshell id\\n.endc\\n.end\\n", (), ())
    Traceback (most recent call last):
    cosim.errors.UnsafeError: deck, line 2: '.control' is no line of a deck
    """

    text: str
    probes: tuple[str, ...]
    times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what could run code."""
        passed = _LINES.match(self.text)
        at = passed.end() if passed else 0
        if at != len(self.text):
            line = self.text[at:].split("\n", 1)[0]
            place = f"deck, line {self.text.count(chr(10), 0, at) + 1}"
            raise UnsafeError(f"{line[:60]!r} is no line of a deck", place=place)
        for probe in self.probes:
            if not _PROBE.fullmatch(probe):
                raise UnsafeError(f"the probe {probe[:60]!r} is no plain name", place="deck")


def title_line(text: str) -> str:
    """The first line of a deck, a comment; every character of the text that is not plain is an underscore.

    >>> title_line("my cell\\n.control: 64 rows")
    '* my cell_.control: 64 rows'
    """
    return f"* {_NOT_IN_TITLES.sub('_', text)}"
