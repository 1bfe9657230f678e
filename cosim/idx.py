"""The idx files of MNIST and its kin: read whole or gzipped, and verified before anything uses them."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from cosim.errors import InputError
from cosim.text_files import reason

_AGAIN = "get the file again, or remove it"


@dataclass(frozen=True, slots=True)
class IdxFile:
    """One official file: its name without .gz, its shape, and the SHA-256 of its uncompressed bytes."""

    filename: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size_bytes(self) -> int:
        """Bytes of the uncompressed file: a header of 4 bytes and 4 a dimension, then one byte a value."""
        return len(self.header) + math.prod(self.shape)

    @property
    def header(self) -> bytes:
        """The idx header: type unsigned byte, number of dimensions, lengths (big-endian)."""
        return bytes((0, 0, 8, len(self.shape))) + b"".join(length.to_bytes(4, "big") for length in self.shape)


def read_idx(path: Path, file: IdxFile) -> bytes:
    """The uncompressed bytes of an idx or idx.gz file, verified; never unpacks more than they should be.

    Raises:
        InputError: It cannot be read, is cut short, has the wrong size or is not the official file.
    """
    try:
        with path.open("rb") as raw:
            return verified(raw, file, place=str(path))
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}", place=str(path)) from error


def verified(stream: BinaryIO, file: IdxFile, *, place: str) -> bytes:
    """The uncompressed bytes of an opened idx or idx.gz file, verified (see read_idx)."""
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    try:
        content = (gzip.GzipFile(fileobj=stream) if packed else stream).read(file.size_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"the gzip file is cut short or damaged: {error}", place=place, hint=_AGAIN) from error
    if len(content) != file.size_bytes:
        got = f"{len(content)}" if len(content) < file.size_bytes else "more"
        raise InputError(f"expected {file.size_bytes} bytes unpacked, got {got}", place=place, hint=_AGAIN)
    if not content.startswith(file.header):
        raise InputError(f"expected an idx file of shape {file.shape}", place=place, hint=_AGAIN)
    if sha256(content).hexdigest() != file.sha256:
        message = "not the official file: its SHA-256 differs"
        raise InputError(message, place=place, hint=_AGAIN)
    return content
