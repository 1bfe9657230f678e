"""Errors are one plain line, and survive the way back from a worker process or another machine."""

from __future__ import annotations

import pickle

import pytest

from cosim.errors import CosimError, EngineMissingError, InputError, MeasuredWorseError, UnsafeError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("two\nlines\tof text", "two lines of text"),
        ("\x1b[31mred\x1b[0m and \x1b]0;title\x07plain", "red and plain"),
        ("\x1b]8;;file:///x\x1b\\link", "link"),
        ("a\x00b\x9bc\x7fd\x1b", "abcd"),
        ("right\u202eleft", "rightleft"),
        ("half \udcff.", "half ."),
    ],
)
def test_a_message_moves_no_terminal(message: str, shown: str) -> None:
    assert str(InputError(message)) == shown
    assert str(InputError("x", place=message, hint=message)) == f"{shown}: x ({shown})"


@pytest.mark.parametrize("kind", [CosimError, InputError, MeasuredWorseError, UnsafeError, EngineMissingError])
def test_an_error_comes_back_as_what_it_is(kind: type[CosimError]) -> None:
    error = kind("wrong", place="a.toml:1:2", hint="do this")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (written here)
    assert type(again) is kind
    assert str(again) == str(error) == "a.toml:1:2: wrong (do this)"
    assert (again.message, again.place, again.hint, again.exit_code) == (
        "wrong",
        "a.toml:1:2",
        "do this",
        kind.exit_code,
    )
