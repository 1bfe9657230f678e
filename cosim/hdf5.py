"""The file contract: HDF5 that xarray opens, that tells what it is, and that cannot be wrong in silence.

Root attributes say the type, version, time and writer. Every dataset has `units`, `long_name` and `axes`; its
axes are dimension scales too, and `fletcher32` guards its chunks. Two SHA-256 cover the rest: `content_hash` all
names, axes, units, values and attributes, and `header_hash` the type, version, time and writer.

Files are built and parsed in memory and moved to and from disk whole: a full disk meets an ordinary write and
never HDF5, and nothing changes under a reader between its checks and its reading.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

import h5py
import numpy as np
from h5py import h5f, h5t  # pyright: ignore[reportAttributeAccessIssue]

from cosim.atomic import replace_file
from cosim.errors import CosimError, InputError, UnsafeError
from cosim.hdf5_content import (
    RESERVED,
    Attribute,
    Content,
    Dataset,
    check,
    content_hash,
    coordinate_of,
    feed,
    is_coordinate,
    little_endian,
    stored_attribute,
)
from cosim.hdf5_scan import scan
from cosim.text_files import reason

__all__ = [
    "MAX_BYTES",
    "RESERVED",
    "Attribute",
    "Content",
    "Dataset",
    "content_hash",
    "peek",
    "read",
    "write",
]

R = TypeVar("R")

MAX_BYTES = 2**30

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BARE = "This is a netCDF dimension but not a netCDF variable."
_DATASET_ATTRIBUTES = {"units", "long_name", "axes", "dtype", "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"}
_HDF5_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
# HDF5 2.0 writes this; every HDF5 from 1.10 on reads it, and its metadata carry checksums.
_LIBVER = ("v110", "v110")
_COMPRESS_FROM_BYTES = 4096


def write(path: Path, content: Content, *, filetype: str, version: tuple[int, int]) -> None:
    """Write a file so that it is there completely or not at all; an older file of that name is replaced.

    Raises:
        InputError: A name, axis or type breaks the contract, or the disk is full or the folder not writable.
    """
    check(content, str(path))
    image = _guarded(str(path), lambda: _image(content, filetype, version))
    replace_file(path, image)


def read(path: Path, *, filetype: str, major: int, max_bytes: int = MAX_BYTES) -> Content:
    """The content of a file after its safety scan and all its checks.

    Args:
        path: The file.
        filetype: The type that is expected.
        major: The major version that is expected; any minor version is taken.
        max_bytes: Largest size of the file, and of its content once unpacked.

    Raises:
        InputError: The file is missing, cut short, damaged, of another type or of another major version.
        UnsafeError: It reaches outside itself, holds types or filters that are not ours, or is too large.
    """
    place = str(path)
    root = _open(path, max_bytes)
    _guarded(place, lambda: scan(root.id, place=place, max_bytes=max_bytes))
    _check_header(_guarded(place, lambda: _header(root, place)), filetype, major, place)
    content = _guarded(place, lambda: _content(root, place))
    for name, expected in (("content_hash", content_hash(content)), ("header_hash", _header_hash(content))):
        if content.attributes.get(name) != expected:
            raise InputError(f"the file is damaged: its {name} does not match", place=place, hint=_AGAIN)
    return content


def peek(path: Path, *, max_bytes: int = MAX_BYTES) -> tuple[str, tuple[int, int]]:
    """The type and version that a file claims, without reading its data.

    Raises:
        InputError: The file is missing, cut short, damaged or none of ours.
        UnsafeError: It is too large or holds what the safety scan refuses.
    """
    place = str(path)
    root = _open(path, max_bytes)
    _guarded(place, lambda: scan(root.id, place=place, max_bytes=max_bytes))
    return _guarded(place, lambda: _header(root, place))


# --- Writing ---


def _image(content: Content, filetype: str, version: tuple[int, int]) -> bytes:
    """The bytes of the file."""
    own = {name: value for name, value in content.attributes.items() if name not in RESERVED}
    whole = Content({**own, **_own_attributes(filetype, version)}, content.datasets)
    attributes = {**whole.attributes, "content_hash": content_hash(whole)}
    attributes["header_hash"] = _header_hash(Content(attributes))
    with h5py.File("image", "w", driver="core", backing_store=False, libver=_LIBVER) as file:
        for name, value in attributes.items():
            _put_attribute(file, name, value)
        for name, item in content.datasets.items():
            _put_dataset(file, name, item)
        for name, item in content.datasets.items():
            _put_axes(file, name, item, content)
        file.flush()
        return file.id.get_file_image()


def _own_attributes(filetype: str, version: tuple[int, int]) -> dict[str, Attribute]:
    return {
        "filetype": filetype,
        "version": list(version),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cosim_version": _cosim_version(),
    }


def _cosim_version() -> str:
    try:
        return metadata.version("cosim")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def _put_attribute(target: Any, name: str, value: Attribute) -> None:
    array = stored_attribute(value)
    dtype = h5py.string_dtype("utf-8", array.dtype.itemsize) if array.dtype.kind == "S" else array.dtype
    target.attrs.create(name, array.astype(dtype), dtype=dtype)


def _put_dataset(file: h5py.File, name: str, item: Dataset) -> None:
    values, options = little_endian(item.values), dict[str, Any]()
    if values.size and values.ndim:
        options = {"fletcher32": True, "chunks": values.shape if values.nbytes <= 2**20 else True}
        if values.nbytes >= _COMPRESS_FROM_BYTES:
            options |= {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    is_bool = values.dtype.kind == "b"
    stored = file.create_dataset(name, data=values.astype("i1") if is_bool else values, **options)
    for key, text in (("units", item.units), ("long_name", item.long_name), ("axes", " ".join(item.axes))):
        _put_attribute(stored, key, text)
    if is_bool:  # xarray's own way to store booleans.
        _put_attribute(stored, "dtype", "bool")
    if is_coordinate(name, item):
        stored.make_scale(item.axes[0])


def _put_axes(file: h5py.File, name: str, item: Dataset, content: Content) -> None:
    if is_coordinate(name, item):
        return
    for index, axis in enumerate(item.axes):
        source = coordinate_of(name, axis, content) or str(PurePosixPath(name).parent / axis)
        if source not in file:
            length = item.values.shape[index]
            file.create_dataset(source, shape=(length,), dtype="f4").make_scale(f"{_BARE} {length:10d}")
        cast(Any, file[name]).dims[index].attach_scale(file[source])


# --- Reading ---

_AGAIN = "copy or make the file again"


def _open(path: Path, max_bytes: int) -> h5py.File:
    """The root group of a file, opened from its bytes in memory."""
    place = str(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError("expected an HDF5 file, got a folder or a device", place=place)
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {reason(error)}", place=place) from error
    if len(raw) > max_bytes:
        raise UnsafeError(f"the file is larger than the limit of {max_bytes} bytes", place=place)
    if not raw.startswith(_SIGNATURE):
        raise InputError(f"expected an HDF5 file, got {'an empty file' if not raw else 'something else'}", place=place)
    return _guarded(place, lambda: h5py.File(h5f.open_file_image(raw)))


def _guarded(place: str, action: Callable[[], R]) -> R:
    """Run something that HDF5 can refuse in many ways, and say it in one."""
    try:
        return action()
    except CosimError as error:
        if error.place is None:
            raise type(error)(error.message, place=place, hint=error.hint) from error
        raise
    except _HDF5_ERRORS as error:
        message = f"the file is cut short or damaged: {reason(error) or type(error).__name__}"
        raise InputError(message, place=place, hint=_AGAIN) from error


def _header(root: h5py.Group, place: str) -> tuple[str, tuple[int, int]]:
    if "filetype" not in root.attrs or "version" not in root.attrs:
        raise InputError("an HDF5 file, but not one of cosim's: it has no filetype and version", place=place)
    filetype, version = _attribute(root, "filetype"), _attribute(root, "version")
    if not isinstance(filetype, str) or not isinstance(version, list) or len(version) != 2:
        raise InputError("expected a text as filetype and two numbers as version", place=place)
    return filetype, (int(version[0]), int(version[1]))


def _check_header(header: tuple[str, tuple[int, int]], filetype: str, major: int, place: str) -> None:
    found, version = header
    if found != filetype:
        raise InputError(f"expected a file of type {filetype!r}, got {found!r}", place=place)
    if version[0] != major:
        hint = "update cosim" if version[0] > major else "make the file again with this version of cosim"
        raise InputError(f"expected version {major}.x, got {version[0]}.{version[1]}", place=place, hint=hint)


def _content(root: h5py.Group, place: str) -> Content:
    attributes = {str(name): _attribute(root, str(name)) for name in root.attrs}
    return Content(attributes, dict(_datasets(root, "", place)))


def _datasets(group: h5py.Group, path: str, place: str) -> list[tuple[str, Dataset]]:
    found: list[tuple[str, Dataset]] = []
    for name in map(str, group):
        item, full = cast(h5py.Group | h5py.Dataset, group[name]), f"{path}{name}"
        if isinstance(item, h5py.Group):
            if len(item.attrs):
                raise InputError(f"the group {full!r} has attributes; expected none", place=place)
            found += _datasets(item, f"{full}/", place)
        else:
            unknown = sorted(set(item.attrs) - _DATASET_ATTRIBUTES)
            if unknown:
                raise InputError(f"dataset {full!r} has an unknown attribute {unknown[0]!r}", place=place)
            if not _is_bare(item):
                found.append((full, _dataset(item)))
    return found


def _is_bare(item: h5py.Dataset) -> bool:
    return "NAME" in item.attrs and str(_attribute(item, "NAME")).startswith(_BARE)


def _dataset(item: h5py.Dataset) -> Dataset:
    values = np.asarray(item[()])
    if "dtype" in item.attrs:
        if _attribute(item, "dtype") != "bool" or values.dtype != np.int8 or np.any((values != 0) & (values != 1)):
            raise ValueError(f"{item.name} is no stored boolean")
        values = values.astype(np.bool_)
    units, long_name, axes = (str(_attribute(item, key)) for key in ("units", "long_name", "axes"))
    return Dataset(values, units, long_name, tuple(axes.split()))


def _attribute(item: Any, name: str) -> Attribute:
    """An attribute as plain Python values.

    Text of variable length is refused: it lies in HDF5's global heap, where one wrong byte can make the library
    loop for ever. For the same reason `axes` is read and never DIMENSION_LIST, which other programs use.
    """
    type_ = item.attrs.get_id(name).get_type()
    if isinstance(type_, h5t.TypeStringID) and type_.is_variable_str():
        raise InputError(f"attribute {name!r}: expected text of fixed length")
    value: Any = np.asarray(item.attrs[name])
    if value.dtype.kind == "S":
        texts = [bytes(entry).decode() for entry in value.reshape(-1)]
    else:
        return value.tolist()
    return texts if value.ndim else texts[0]


def _header_hash(content: Content) -> str:
    digest = sha256()
    for name in sorted(RESERVED - {"header_hash"}):
        feed(digest, name, repr(content.attributes.get(name)))
    return digest.hexdigest()
