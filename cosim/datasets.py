"""MNIST, Fashion-MNIST and CIFAR-10: found, verified and loaded; fetched only when asked.

Looked for in this order: the folder in the environment variable COSIM_DATA (itself, or its `mnist`, `fashion-mnist`
and `cifar-10`), the folder of Debian's package dataset-fashion-mnist, and the cache that fetch fills. MNIST and
Fashion-MNIST are idx or idx.gz files under their official names; the SHA-256 of the uncompressed bytes decides.
CIFAR-10 may have any form that `cosim.cifar` knows.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Integer, UInt8

from cosim import cifar
from cosim.atomic import replace_file
from cosim.download import Opener, Remote, download, open_https
from cosim.errors import InputError
from cosim.idx import IdxFile, read_idx, verified
from cosim.text_files import reason

Name = Literal["mnist", "fashion_mnist", "cifar10"]
IdxName = Literal["mnist", "fashion_mnist"]
Split = Literal["train", "test"]

SIDE = 28
CLASSES = 10
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

MIRRORS: dict[Name, tuple[str, ...]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    "fashion_mnist": ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",),
    "cifar10": ("https://www.cs.toronto.edu/~kriz",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """One split of a data set.

    Args:
        images: Values 0 to 255: grey, white on black, (image, row, column), or colours, (image, row, column, channel).
        labels: Classes from 0.
    """

    name: str
    split: str
    images: UInt8[np.ndarray, "image row column *channel"]
    labels: Integer[np.ndarray, " image"]


def load_images(name: Name, split: Split) -> Images:
    """The images and labels of one split, verified.

    Raises:
        InputError: The files are not found (the message says how to get them), or one is cut short, of the wrong
            size or not the official one.
    """
    name, split = _known(name), _known_split(split)
    if name == "cifar10":
        found = cifar.load_batches(split, list(_folders(name)))
        if found is None:
            raise InputError(f"{name}: no {split} batches are found", hint=_GET[name])
        return Images(name, split, *found)
    arrays: list[np.ndarray] = []
    for file in FILES[name][split]:
        values = np.frombuffer(_found(name, file), np.uint8, offset=len(file.header)).reshape(file.shape)
        arrays.append(values)
    if arrays[1].max() >= CLASSES:
        raise InputError(f"expected labels 0 to {CLASSES - 1}, got {arrays[1].max()}", place=name)
    return Images(name, split, arrays[0], arrays[1])


def fetch(name: Name, *, mirrors: Sequence[str] | None = None, opener: Opener | None = None) -> Iterator[str]:
    """Fetch the official files of a data set into the cache; yields a line a file. What is there and right stays.

    Args:
        name: The data set.
        mirrors: Addresses of folders (https) to try in order; the official ones by default.
        opener: Opens an address with a time-out in seconds; for tests.

    Raises:
        InputError: No mirror gave the official file, or the cache cannot be written.
    """
    name = _known(name)
    folder = cache_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {reason(error)}", place=str(folder)) from error
    for file in _remotes(name):
        path = folder / file.filename
        if _is_right(path, file):
            yield f"{path}: there already"
        else:
            replace_file(path, download(file, MIRRORS[name] if mirrors is None else mirrors, opener or open_https))
            yield f"{path}: fetched and verified"


def candidates(name: IdxName, file: IdxFile) -> Iterator[Path]:
    """Existing files that may be the wanted one, the best source first."""
    for folder in _folders(name):
        for path in (folder / file.filename, folder / f"{file.filename}.gz"):
            if path.is_file():
                yield path


def cache_folder(name: Name) -> Path:
    """Where fetched files are kept: cosim/NAME in XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "cosim" / name


# --- The official files ---


def _split(prefix: str, count: int, images: str, labels: str) -> tuple[IdxFile, IdxFile]:
    return (
        IdxFile(f"{prefix}-images-idx3-ubyte", (count, SIDE, SIDE), images),
        IdxFile(f"{prefix}-labels-idx1-ubyte", (count,), labels),
    )


FILES: dict[IdxName, dict[Split, tuple[IdxFile, IdxFile]]] = {
    "mnist": {
        "train": _split(
            "train",
            60_000,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "test": _split(
            "t10k",
            10_000,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
    "fashion_mnist": {
        "train": _split(
            "train",
            60_000,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "test": _split(
            "t10k",
            10_000,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
}

_GET = {
    "mnist": "run `cosim data fetch mnist`, or point COSIM_DATA at a folder with the idx files",
    "fashion_mnist": "run `cosim data fetch fashion_mnist` or `apt-get install dataset-fashion-mnist`, or point "
    "COSIM_DATA at a folder with the idx files",
    "cifar10": "run `cosim data fetch cifar10`, or point COSIM_DATA at a folder with the official batches or their "
    "archive",
}
_SUBFOLDERS = {"mnist": ("mnist", "MNIST/raw"), "fashion_mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw")}


def _known(name: str) -> Name:
    for known in get_args(Name):
        if name == known:
            return known
    raise InputError(f"unknown data set {name!r}", hint=f"known: {', '.join(get_args(Name))}")


def _known_split(split: str) -> Split:
    if split == "train" or split == "test":
        return split
    raise InputError(f"expected the split 'train' or 'test', got {split!r}")


def _folders(name: Name) -> Iterator[Path]:
    base = os.environ.get("COSIM_DATA")
    if base:
        yield from (Path(base) / subfolder for subfolder in _SUBFOLDERS.get(name, ()))
        yield Path(base)
    if name == "fashion_mnist":
        yield DEBIAN_FOLDER
    yield cache_folder(name)


def _found(name: IdxName, file: IdxFile) -> bytes:
    """The bytes of the first file found; the other data set's file, of the same name, is passed over."""
    shared = Path(os.environ.get("COSIM_DATA") or os.devnull)
    for path in candidates(name, file):
        try:
            return read_idx(path, file)
        except InputError:
            if path.parent != shared or not _is_of_another(path, name, file):
                raise
    raise InputError(f"{name}: {file.filename} is not found", hint=_GET[name])


def _is_of_another(path: Path, name: IdxName, file: IdxFile) -> bool:
    twins = [twin for other, splits in FILES.items() if other != name for pair in splits.values() for twin in pair]
    for twin in (twin for twin in twins if twin.filename == file.filename):
        try:
            return bool(read_idx(path, twin))
        except InputError:
            continue
    return False


# --- Fetching ---


def _remotes(name: Name) -> list[Remote]:
    if name == "cifar10":
        return [Remote(cifar.ARCHIVES[0], cifar.LARGEST_ARCHIVE, cifar.verify_archive)]
    return [_remote(file) for pair in FILES[name].values() for file in pair]


def _remote(file: IdxFile) -> Remote:
    # gzip adds at most a header and a few bytes a block.
    largest = file.size_bytes + file.size_bytes // 1000 + 1024
    return Remote(f"{file.filename}.gz", largest, lambda raw, place: verified(io.BytesIO(raw), file, place=place))


def _is_right(path: Path, file: Remote) -> bool:
    try:
        file.verify(path.read_bytes(), str(path))
    except (InputError, OSError):
        return False
    return True
