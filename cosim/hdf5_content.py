"""What a file of the contract holds: datasets with units and axes, attributes, and the hash over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cosim.errors import InputError

Attribute = str | int | float | list[str] | list[int] | list[float]

MAX_TEXT_BYTES = 2**16
RESERVED = frozenset({"filetype", "version", "created_at", "cosim_version", "content_hash", "header_hash"})

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*(/[A-Za-z][A-Za-z0-9_.\-]*){0,6}")


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """An array with its meaning.

    Args:
        values: Numbers, booleans or ASCII bytes ("S").
        units: SI unit, "1" for a pure number.
        long_name: What it is, in words.
        axes: One name a dimension. A 1-D dataset whose name is its own axis, in the same group or one above,
            gives that axis its coordinates; without one, the axis has a name and a length only.
    """

    values: Shaped[np.ndarray, " ..."]
    units: str
    long_name: str
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What a file holds: root attributes and datasets; a dataset's name may contain groups ("bl/mean").

    Names in RESERVED are added by write and returned by read; write replaces them where they are given.
    """

    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    datasets: Mapping[str, Dataset] = field(default_factory=dict[str, Dataset])


def content_hash(content: Content) -> str:
    """SHA-256 over names, types, shapes, axes, units, values and attributes; their order does not matter.

    Names in RESERVED are left out, so the same content written at another time or by another version of the
    library has the same hash.

    >>> content_hash(Content({"a": 1, "b": "x"})) == content_hash(Content({"b": "x", "a": 1}))
    True
    """
    digest = sha256()
    for name, value in sorted(content.attributes.items()):
        if name not in RESERVED:
            array = stored_attribute(value)
            feed(digest, "attribute", name, array.dtype.str, repr(array.shape), array.tobytes())
    for name, item in sorted(content.datasets.items()):
        values = little_endian(item.values)
        about = (values.dtype.str, repr(values.shape), repr(item.axes), item.units, item.long_name)
        feed(digest, "dataset", name, *about, np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def check(content: Content, place: str) -> None:
    """Refuse content that the contract has no place for.

    Raises:
        InputError: A name, a type, an axis or an attribute is wrong; the message names it.
    """
    groups = {str(parent) for name in content.datasets for parent in PurePosixPath(name).parents}
    for name, value in content.attributes.items():
        try:
            stored_attribute(value)
        except ValueError as error:
            raise InputError(f"attribute {name!r}: {error}", place=place) from error
    for name, item in content.datasets.items():
        wrong = _wrong_array(name, item, groups) or _wrong_axis(name, item, content, groups)
        if wrong:
            raise InputError(f"dataset {name!r}: {wrong}", place=place)


def is_coordinate(name: str, item: Dataset) -> bool:
    """Whether a dataset gives an axis its coordinates: it is 1-D and its axis has its own name."""
    return item.axes == (PurePosixPath(name).name,)


def coordinate_of(name: str, axis: str, content: Content) -> str | None:
    """The dataset with the coordinates of an axis: in a dataset's own group or the nearest one above."""
    for parent in PurePosixPath(name).parents:
        path = str(parent / axis)
        if path in content.datasets and is_coordinate(path, content.datasets[path]):
            return path
    return None


def stored_attribute(value: Attribute) -> Shaped[np.ndarray, " ..."]:
    """An attribute as it is stored: int64, float64 or UTF-8 bytes, alone or a list.

    Raises:
        ValueError: The value is nothing of these, has a NUL character, or does not fit 64 bits.

    >>> stored_attribute(["a", "bb"])
    array([b'a', b'bb'], dtype='|S2')
    """
    is_list = isinstance(value, list | tuple)
    entries: list[Any] = list(value) if is_list else [value]
    if entries and all(isinstance(entry, str) for entry in entries):
        array = _bytes(entries)
    elif entries and all(isinstance(entry, int | np.integer) for entry in entries):
        array = _int64(entries)
    elif all(isinstance(entry, int | float | np.integer | np.floating) for entry in entries):
        array = np.array(entries, dtype="<f8")
    else:
        raise ValueError(f"expected text, a number or a list of one of them, got {type(value).__name__}")
    return array if is_list else array[0, ...]


def little_endian(values: Shaped[np.ndarray, " ..."]) -> Shaped[np.ndarray, ...]:
    """The same numbers in the byte order of the files."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def feed(digest: Any, *parts: str | bytes) -> None:
    """Add parts to a hash with their lengths, so that no two lists of parts look alike."""
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)


def _wrong_array(name: str, item: Dataset, groups: set[str]) -> str | None:
    """Why a dataset's name, type or texts break the contract, or None."""
    dtype = item.values.dtype
    if not _NAME.fullmatch(name) or name in groups:
        return "expected a name of letters, digits, '_', '.' and '-' that is no group"
    if dtype.kind not in "biufS" or (dtype.kind != "S" and dtype.itemsize > 8) or dtype == np.float16:
        return f"expected booleans, numbers of at most 8 bytes (not float16) or bytes, got {dtype}"
    if not 0 < dtype.itemsize <= MAX_TEXT_BYTES:
        return f"expected text of 1 to {MAX_TEXT_BYTES} bytes, got {dtype.itemsize}"
    if "\0" in item.units + item.long_name:
        return "expected units and long_name without NUL characters"
    return None


def _wrong_axis(name: str, item: Dataset, content: Content, groups: set[str]) -> str | None:
    """Why a dataset's axes break the contract, or None."""
    if len(item.axes) != item.values.ndim or len(set(item.axes)) != len(item.axes):
        return f"expected {item.values.ndim} different axes, got {item.axes}"
    for axis, length in zip(item.axes, item.values.shape, strict=True):
        beside = str(PurePosixPath(name).parent / axis)
        source = coordinate_of(name, axis, content)
        if not _NAME.fullmatch(axis) or "/" in axis:
            return f"expected an axis of letters, digits, '_', '.' and '-', got {axis!r}"
        if source is None and (beside in content.datasets or beside in groups):
            return f"its axis {axis!r} is the name of a group or of a dataset with other axes"
        lengths = _bare_lengths(name, axis, content) if source is None else {content.datasets[source].values.size}
        if lengths != {length}:
            return f"its axis {axis!r} has length {length}, elsewhere {sorted(lengths - {length})}"
    return None


def _bare_lengths(name: str, axis: str, content: Content) -> set[int]:
    """The lengths that the datasets of one group give an axis without coordinates."""
    parent = PurePosixPath(name).parent
    return {
        item.values.shape[item.axes.index(axis)]
        for other, item in content.datasets.items()
        if PurePosixPath(other).parent == parent and axis in item.axes
    }


def _bytes(entries: list[str]) -> Shaped[np.ndarray, " ..."]:
    raw = [entry.encode() for entry in entries]
    if any(b"\0" in text for text in raw):
        raise ValueError("expected text without NUL characters")
    return np.array(raw, dtype=f"S{max(1, *map(len, raw), 1)}")


def _int64(entries: list[int]) -> Shaped[np.ndarray, " ..."]:
    try:
        return np.array([int(entry) for entry in entries], dtype="<i8")
    except OverflowError as error:
        raise ValueError("expected whole numbers of 64 bits") from error
