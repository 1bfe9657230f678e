"""Subcircuits out of a safe netlist text, checked against a contract and printed for a deck."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cosim.errors import InputError

_EQUALS = re.compile(r"\s*=\s*")
_TOKEN = re.compile(r"'[^']*'|\{[^}]*\}|\([^)]*\)|[^\s=]+|=")


@dataclass(frozen=True, slots=True)
class TransistorCall:
    """A transistor that is a subcircuit in its kit.

    Args:
        name: The subcircuit's name; its ports are drain, gate, source and body.
        parameters: What it may be called with.
        renamed: Its names for parameters of a plain transistor (delvto).
    """

    name: str
    parameters: frozenset[str]
    renamed: Mapping[str, str]


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

    def render(self, parameters: Mapping[str, float], models: Mapping[str, str | TransistorCall]) -> list[str]:
        """Its lines, and those it uses, for a deck.

        Args:
            parameters: Values that replace the defaults of the same names.
            models: The model card or subcircuit of each transistor type; names not in it stay.

        Raises:
            InputError: A transistor that is a subcircuit in its kit is called with what that does not know.

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
    for line in statements_of(text):
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
    for line in statements_of(text):
        depth += line.startswith(".subckt")
        if not depth:
            lines.append(line)
        depth -= bool(re.match(r"\.ends\b", line))
    return lines


def statements_of(text: str) -> list[str]:
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


def _with_model(line: str, models: Mapping[str, str | TransistorCall]) -> str:
    """A transistor's line with its type replaced by the process's model card or subcircuit."""
    if line[0] not in "mx":
        return line
    parts = _EQUALS.sub("=", line).split(" ")
    first = next((i for i, part in enumerate(parts) if "=" in part), len(parts))
    at = 5 if line[0] == "m" else first - 1
    if len(parts) <= at:
        return line
    model = models.get(parts[at], parts[at])
    if isinstance(model, TransistorCall):
        return _call(parts, at, first, model)
    if parts[at] in models and line[0] == "x":
        parts[0] = f"m{parts[0]}"  # A subcircuit in the cell's own kit, a plain transistor in this process.
    parts[at] = model
    return " ".join(parts)


def _call(parts: list[str], at: int, first: int, model: TransistorCall) -> str:
    """The line as a call of the kit's subcircuit."""
    name = parts[0] if parts[0].startswith("x") else f"x{parts[0]}"
    given: list[str] = []
    # A value in braces may hold blanks, so the names are looked for and the rest is left alone.
    for part in parts[first:]:
        key, equals, value = part.partition("=")
        key = model.renamed.get(key, key) if equals else key
        if equals and re.fullmatch(r"[a-z_]\w*", key) and key not in model.parameters:
            hint = f"it has: {', '.join(sorted(model.parameters))}"
            raise InputError(f"{parts[0]}: the subcircuit {model.name!r} has no parameter {key!r}", hint=hint)
        given.append(f"{key}{equals}{value}")
    return " ".join([name, *parts[1:at], model.name, *given])
