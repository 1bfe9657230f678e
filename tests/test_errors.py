from __future__ import annotations

import pytest

from cosim.errors import InputError


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
