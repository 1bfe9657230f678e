"""Subcircuits out of a safe netlist text, checked against a contract and printed for a deck."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cosim.errors import InputError

_TOKEN = re.compile(r"'[^']*'|\{[^}]*\}|\([^)]*\)|[^\s=]+|=")


@dataclass(frozen=True, slots=True)
class Subcircuit:
    """One subcircuit, with the other subcircuits of its file that it may use.

    Args:
        name: Its name, lower case.
        ports: Its ports in order, lower case.
        parameters: The text of each parameter's default, by lower-case name.
        elements: Its element lines in order (no comments, continuations joined), lower case.
        others: What it may use of its file, one line an entry: other subcircuits, and parameters, functions and
            models at the top.
    """

    name: str
    ports: tuple[str, ...]
    parameters: Mapping[str, str]
    elements: tuple[str, ...] = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of its elements, in order.

        >>> parse_subcircuit(".subckt a x y r=1k\\nR1 x y {r}\\n.ends", "a", place="a.cir").devices
        ('r1',)
        """
        return tuple(line.split(maxsplit=1)[0] for line in self.elements if not line.startswith("."))

    def render(self, parameters: Mapping[str, float], models: Mapping[str, str]) -> list[str]:
        """Its lines, and those it uses, for a deck.

        Args:
            parameters: Values that replace the defaults of the same names.
            models: The model card of each transistor type; names not in it stay.

        >>> parse_subcircuit(".subckt a d g l=1u\\nm1 d g 0 0 nfet l={l}\\n.ends", "a", place="").render(
        ...     {"l": 6e-08}, {"nfet": "nch"})
        ['.subckt a d g l=6e-08', 'm1 d g 0 0 nch l={l}', '.ends a']
        """
        merged = dict(self.parameters) | {name: f"{value:.9g}" for name, value in parameters.items()}
        header = [".subckt", self.name, *self.ports, *(f"{name}={text}" for name, text in merged.items())]
        body = [*self.others, " ".join(header), *self.elements, f".ends {self.name}"]
        return [_with_model(line, models) for line in body]


def parse_subcircuit(text: str, name: str, *, place: str) -> Subcircuit:
    """The subcircuit of that name in a netlist; elements and analyses at the top are left out.

    Raises:
        InputError: The file has no such subcircuit, has it twice, or one of its subcircuits does not end.
    """
    blocks = _blocks(text, place)
    wanted = [block for block in blocks if _header(block[0])[0] == name.lower()]
    if len(wanted) != 1:
        names = ", ".join(sorted({_header(block[0])[0] for block in blocks})) or "none"
        what = f"no subcircuit {name!r}" if not wanted else f"subcircuit {name!r} more than once"
        raise InputError(f"{what}", place=place, hint=f"its subcircuits: {names}")
    (block,) = wanted
    _, ports, parameters = _header(block[0])
    others = tuple(line for other in blocks if other is not block for line in other)
    shared = tuple(line for line in _top(text) if line.split()[0] in (".param", ".func", ".model"))
    return Subcircuit(name.lower(), ports, parameters, tuple(block[1:-1]), shared + others)


def _blocks(text: str, place: str) -> list[list[str]]:
    """The lines of every outermost subcircuit, from `.subckt` to `.ends`."""
    blocks: list[list[str]] = []
    depth = 0
    for line in _statements(text):
        if line.startswith(".subckt"):
            depth += 1
            if depth == 1:
                blocks.append([])
        if depth:
            blocks[-1].append(line)
        if re.match(r"\.ends\b", line):
            depth -= 1
    if depth:
        raise InputError("a subcircuit has no .ends", place=place)
    return blocks


def _top(text: str) -> list[str]:
    """The statements outside every subcircuit."""
    lines: list[str] = []
    depth = 0
    for line in _statements(text):
        depth += line.startswith(".subckt")
        if not depth:
            lines.append(line)
        depth -= bool(re.match(r"\.ends\b", line))
    return lines


def _statements(text: str) -> list[str]:
    """The statements of a netlist in lower case: continuations joined, comments and blanks dropped."""
    joined: list[str] = []
    for raw in text.splitlines():
        line = re.split(r"\s[$;]|;", raw, maxsplit=1)[0].strip()
        if not line or line.startswith("*"):
            continue
        if line.startswith("+") and joined:
            joined[-1] += " " + line[1:].strip()
        else:
            joined.append(line)
    return [" ".join(line.split()).lower() for line in joined]


def _header(line: str) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """Name, ports and parameter defaults of a `.subckt` line."""
    tokens = [token for token in _TOKEN.findall(line)[1:] if token != "params:"]
    first = tokens.index("=") - 1 if "=" in tokens else len(tokens)
    rest = tokens[first:]
    parameters = {rest[i]: rest[i + 2] for i in range(0, len(rest) - 2, 3)}
    return tokens[0] if tokens else "", tuple(tokens[1:first]), parameters


def _with_model(line: str, models: Mapping[str, str]) -> str:
    """A transistor's line with its type replaced by the process's model card."""
    if not line.startswith("m"):
        return line
    parts = line.split(" ")
    if len(parts) > 5:
        parts[5] = models.get(parts[5], parts[5])
    return " ".join(parts)
