"""Netlists are untrusted text: ngspice runs shell commands and reads files that a netlist names.

The guard returns only statements that it has checked, written anew: comments are gone, continuations are
normal, includes and library sections stand where they were called. What ngspice sees is therefore exactly
what was checked. `.end` is dropped; nothing may follow it. Two kinds of text are told apart:

- a part (a cell, an amplifier, a process): models, parameters and subcircuits. An element outside a subcircuit
  would be wired into the bench, and an analysis would change what is simulated, so both are refused.
- a bench (`bench=True`): a part, elements at the top, analyses, `.save` and simulator options.

The first line is a statement like any other, as in an included file: give a title as a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cosim.circuit.cards import check_card
from cosim.circuit.statements import Statement, statements
from cosim.errors import CosimError, InputError, UnsafeError
from cosim.text_files import read_text

MAX_FILE_BYTES = 8 * 2**20
MAX_TOTAL_BYTES = 32 * 2**20
MAX_DEPTH = 10
MAX_FILES = 200

_INCLUDE = frozenset({".include", ".inc", ".incl"})
_CALL = re.compile(r"\.\w+\s+(\"[^\"']+\"|'[^\"']+'|[^\s\"']+)(?:\s+([\w.\-]+))?", re.ASCII)


def check_netlist(
    path: Path,
    *,
    root: Path | None = None,
    allow_includes: bool = True,
    section: str | None = None,
    bench: bool = False,
) -> str:
    """The checked text of a netlist file with all that it includes.

    Args:
        path: The file.
        root: The folder that includes must stay in; the file's own folder by default.
        allow_includes: Whether `.include` and `.lib FILE SECTION` are allowed at all.
        section: The library section to take (`.lib NAME` to `.endl`); the rest of the file is checked as well.
        bench: Whether the file may hold analyses and top-level elements.

    Returns:
        Self-contained statements, without title and `.end`, ending with a line end (empty for an empty file).

    Raises:
        UnsafeError: A card, a character or an include that is not allowed.
        InputError: A file is missing, too large or no text; a block is not closed; a section is missing.
    """
    shown = root or path.parent
    reader = _Reader(shown.resolve(), shown, allow_includes)
    cards = list(reader.file(_inside(path, reader.home, str(path)), str(path), section))
    return _written(cards, bench=bench)


def netlist_problems(path: Path, *, bench: bool = False) -> list[CosimError]:
    """Everything that `check_netlist` would refuse in a file, one error a card; empty where it is good."""
    reader = _Reader(path.parent.resolve(), path.parent, allow_includes=True)
    problems: list[CosimError] = []
    try:
        for card in reader.file(_inside(path, reader.home, str(path)), str(path), None):
            try:
                check_card(card, bench=bench)
            except CosimError as error:
                problems.append(error)
        if not problems:
            check_netlist(path, bench=bench)
    except CosimError as error:
        problems.append(error)
    return problems


def check_text(text: str, *, place: str, bench: bool = False) -> str:
    """The checked text of a netlist that is not in a file; it may include nothing.

    Raises:
        UnsafeError: A card or character that is not allowed, or an include.
        InputError: A block is not closed, or the text is too large.

    >>> check_text("* a load\\n.model d1 d (is=1e-15)\\n.end", place="d.cir")
    '.model d1 d (is=1e-15)\\n'
    """
    reader = _Reader(Path(), Path(), allow_includes=False)
    reader.count(text, place)
    return _written(list(reader.cards(list(statements(text, place)), place, None, Path())), bench=bench)


# --- Files, includes and sections ---


@dataclass(slots=True)
class _Reader:
    """Resolves includes and library calls inside one folder, with limits against loops and floods."""

    home: Path
    shown: Path
    allow_includes: bool
    total_bytes: int = 0
    files: int = 0
    stack: list[tuple[Path, str | None]] = field(default_factory=list[tuple[Path, str | None]])
    read: dict[Path, tuple[str, list[Statement]]] = field(default_factory=dict[Path, tuple[str, list[Statement]]])

    def file(self, path: Path, place: str, section: str | None) -> Iterator[Statement]:
        if (path, section) in self.stack or len(self.stack) >= MAX_DEPTH:
            raise UnsafeError(f"includes form a loop or are deeper than {MAX_DEPTH}", place=place)
        self.files += 1
        if self.files > MAX_FILES:
            raise UnsafeError(f"more than {MAX_FILES} included files", place=place)
        self.stack.append((path, section))
        # A kit's library calls itself, section by section: it is read and its other sections are checked once.
        again = path in self.read
        if not again:
            text = read_text(path, max_bytes=MAX_FILE_BYTES)
            self.read[path] = (text, list(statements(text, place)))
        text, cards = self.read[path]
        self.count(text, place)
        yield from self.cards(cards, place, section, path.parent, left_checked=again)
        self.stack.pop()

    def count(self, text: str, place: str) -> None:
        """Refuse floods."""
        self.total_bytes += len(text)
        if self.total_bytes > MAX_TOTAL_BYTES:
            raise UnsafeError(f"more than {MAX_TOTAL_BYTES} bytes with all includes", place=place)

    def cards(
        self, cards: list[Statement], place: str, section: str | None, folder: Path, *, left_checked: bool = False
    ) -> Iterator[Statement]:
        """The cards of a file, or of one of its sections, with all that they include."""
        current: str | None = None
        names: list[str] = []
        ended = False
        for card in cards:
            head, *rest = card.text.lower().split()
            if ended:
                check_card(card, bench=True)
                raise InputError("a card after .end", place=card.where, hint="remove it")
            if head == ".lib" and len(rest) == 1:
                current = self._opened(card, rest[0], current)
                names.append(current)
            elif head == ".endl":
                # The name after it is a remark, as in ngspice: kits are found that write another one.
                if current is None or len(rest) > 1:
                    raise InputError("an .endl that closes no section", place=card.where)
                current = None
            elif head == ".end":
                ended = True
            else:
                if current == (section.lower() if section else None):
                    yield from self._taken(card, head, folder)
                elif not left_checked:
                    self._check_left(card, head, folder)
        self._closed(place, current, names, section)

    def _opened(self, card: Statement, name: str, current: str | None) -> str:
        if current is not None or not re.fullmatch(r"[\w.\-]+", name, re.ASCII):
            raise InputError("a library section inside another, or without a plain name", place=card.where)
        return name

    def _closed(self, place: str, current: str | None, names: list[str], section: str | None) -> None:
        if current is not None:
            raise InputError(f"the library section {current!r} has no .endl", place=place)
        known = f"it has: {', '.join(names)}" if names else "it has no sections"
        if section is not None and section.lower() not in names:
            raise InputError(f"there is no library section {section!r}", place=place, hint=known)
        if section is None and names:
            raise InputError("expected the name of a library section", place=place, hint=known)

    def _taken(self, card: Statement, head: str, folder: Path) -> Iterator[Statement]:
        """The card, or what it includes."""
        if head not in _INCLUDE and head != ".lib":
            yield card
        else:
            path, section = self._call(card, head, folder)
            yield from self.file(path, str(self.shown / path.relative_to(self.home)), section)

    def _check_left(self, card: Statement, head: str, folder: Path) -> None:
        """A file that holds something refused is refused as a whole, in any section."""
        if head not in _INCLUDE and head != ".lib":
            check_card(card, bench=True)
        else:
            # Kits come without the files of sections that nobody asked for.
            self._call(card, head, folder, must_exist=False)

    def _call(self, card: Statement, head: str, folder: Path, *, must_exist: bool = True) -> tuple[Path, str | None]:
        """The file and section that an include or library call names."""
        if not self.allow_includes:
            raise UnsafeError(f"{head} is refused here", place=card.where, hint="put everything into one file")
        call = _CALL.fullmatch(card.text)
        if call is None or (call[2] is None) != (head in _INCLUDE):
            raise UnsafeError(f"{head} with something else than a plain path", place=card.where)
        path = _target(call[1].strip("\"'"), folder, self.home, card.where)
        if must_exist and not path.is_file():
            raise InputError(f"the include {path.name!r} is no file of this folder", place=card.where)
        return path, call[2]


def _target(name: str, folder: Path, home: Path, where: str) -> Path:
    """The file that an include names, if it lies inside the home folder."""
    if name.startswith(("/", "~")) or re.search(r"[\\$`%:*?]", name):
        raise UnsafeError(f"the include {name!r} is no plain relative path", place=where)
    return _inside(folder / name, home, where)


def _inside(path: Path, home: Path, where: str) -> Path:
    """The real path, links followed, which must lie inside the home folder."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", place=where) from error
    if not real.is_relative_to(home):
        raise UnsafeError(f"{path.name!r} leads out of the folder of the netlist", place=where)
    return real


# --- The whole text ---


def _written(cards: list[Statement], *, bench: bool) -> str:
    """The checked cards as text."""
    for card in cards:
        check_card(card, bench=bench)
    _check_blocks(cards, bench=bench)
    return "".join(f"{card.written}\n" for card in cards)


def _check_blocks(cards: list[Statement], *, bench: bool) -> None:
    """Subcircuits and conditions are closed, and a part has no element outside a subcircuit."""
    open_: list[tuple[str, Statement]] = []
    for card in cards:
        head = card.text.split(None, 1)[0].lower()
        if head in (".subckt", ".if"):
            open_.append((".ends" if head == ".subckt" else ".endif", card))
        elif head in (".ends", ".endif", ".else", ".elseif"):
            closes = head if head in (".ends", ".endif") else ".endif"
            if not open_ or open_[-1][0] != closes:
                raise InputError(f"{head} without its beginning", place=card.where)
            if head == closes:
                open_.pop()
        elif head[0] != "." and not bench and all(end != ".ends" for end, _ in open_):
            hint = "put it into a .subckt: a bench places the parts"
            raise InputError(f"the element {head!r} stands outside a subcircuit", place=card.where, hint=hint)
    if open_:
        end, card = open_[-1]
        raise InputError(f"{card.text.split()[0]} is never closed with {end}", place=card.where)
