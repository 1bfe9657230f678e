"""What the user sees: progress on standard error, results and `--json` on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Parameter, Token

PLAIN_EVERY_S = 10.0
"""Seconds between progress lines where standard error is no terminal."""


def _whole(_type: object, tokens: Sequence[Token]) -> int:
    """A whole number; cyclopts by itself rounds 1.5 to 2."""
    return int(tokens[0].value)


Whole = Annotated[int, Parameter(converter=_whole)]
"""A command's option that is a whole number, and refused where it is none."""

SomeWhole = Annotated[int | None, Parameter(converter=_whole)]
"""The same, where it may be left out."""


@dataclass(slots=True)
class Meter:
    """A progress display: a bar on a terminal, one plain line now and then elsewhere."""

    label: str
    bar: Any = None
    task: Any = None
    last_s: float = field(default_factory=time.monotonic)

    def update(self, done: int, total: int, detail: str = "", left_s: float | None = None) -> None:
        """Show that `done` of `total` are done; `left_s` is for the plain lines, the bar has its own clock."""
        detail = plain(detail)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total, detail=detail)
        elif time.monotonic() - self.last_s >= PLAIN_EVERY_S:
            self.last_s = time.monotonic()
            left = "" if left_s is None else f"{left_s:.0f} s left  "
            print(f"{self.label}: {done} of {total}  {left}{detail}", file=sys.stderr, flush=True)


@contextmanager
def meter(label: str) -> Generator[Meter]:
    """A progress display for the time of the block."""
    if not sys.stderr.isatty():
        yield Meter(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    detail = TextColumn("{task.fields[detail]}", markup=False)
    with Progress(*columns, detail, console=Console(stderr=True), transient=True) as bar:
        yield Meter(label, bar, bar.add_task(label, total=None, detail=""))


def note(text: str) -> None:
    """One line of progress on standard error."""
    print(plain(text), file=sys.stderr, flush=True)


def show(lines: Iterable[str], content: Mapping[str, Any], as_json: bool, following: str = "") -> None:
    """The result: lines for people with the next command last, or one JSON object."""
    if as_json:
        print(json.dumps(content, indent=1, allow_nan=False, default=str))
        return
    for line in lines:
        print(plain(line))
    if following:
        print(f"Next: {plain(following)}")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """Aligned plain-text columns; the first is left-aligned.

    >>> table([["ideal", "88.1 %"]], ["mode", "accuracy"])
    ['mode   accuracy', 'ideal    88.1 %']
    """
    lines = [[plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligned = [
        [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return ["  ".join(row).rstrip() for row in aligned]


def plain(text: str) -> str:
    """The text without what could steer a terminal: names in files are anyone's.

    >>> plain("a\\x1b[2Jb\\nc")
    'a?[2Jb c'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def percent(value: float) -> str:
    """A share in percent with two decimals."""
    return f"{100 * value:.2f} %"
