"""Text files that a user gives: read whole, with a limit, and refused with one clear line."""

from __future__ import annotations

from pathlib import Path

from cosim.errors import InputError

MAX_TEXT_BYTES = 1024 * 1024


def read_text(path: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a UTF-8 file, line ends as they are in it; a byte order mark is dropped.

    Raises:
        InputError: The file is missing, no regular file, not readable, larger than max_bytes or not UTF-8.
    """
    place = str(path)
    try:
        if not path.exists():
            raise InputError("no such file", place=place)
        if not path.is_file():  # A pipe or a device could block or never end.
            raise InputError("expected a text file, got a folder or a device", place=place)
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {reason(error)}", place=place) from error
    if len(raw) > max_bytes:
        raise InputError(f"expected a text file of at most {max_bytes} bytes, got a larger one", place=place)
    return _decode(raw, place)


def reason(error: Exception) -> str:
    """What the system said, without the path that the place already names.

    >>> reason(OSError(28, "No space left on device", "a.h5"))
    'No space left on device'
    """
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _decode(raw: bytes, place: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"expected UTF-8 text, got byte 0x{raw[error.start]:02x}", place=f"{place}:{line}") from error
