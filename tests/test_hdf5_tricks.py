"""Files that would read other files, or fill the memory: refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosim.errors import UnsafeError
from cosim.hdf5 import Content, Dataset, peek, read, write

KIND = "cosim-test"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file of ours, before a trick is played on it."""
    path = tmp_path / "a.h5"
    mean = Dataset(np.random.default_rng(1).random((5, 3)), "V", "mean of the bit line", ("count", "sample"))
    level = Dataset(np.array([0.2, 0.4, 0.6]), "V", "reference", ("level",))
    write(path, Content({"seed": 7}, {"mean": mean, "sense/level": level}), filetype=KIND, version=(1, 2))
    return path


def test_the_file_without_tricks_is_read(path: Path) -> None:
    assert set(read(path, filetype=KIND, major=1).datasets) == {"mean", "sense/level"}


def _external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = 1.0
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def _soft_link(file: h5py.File, folder: Path) -> None:
    file["x"] = h5py.SoftLink("/mean")


def _hard_link_loop(file: h5py.File, folder: Path) -> None:
    file["sense/up"] = file["/"]


def _external_storage(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(4,), dtype="u1", external=[("/etc/hostname", 0, 4)])


def _virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.arange(4)
    layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(4,))
    file.create_virtual_dataset("x", layout)


def _reference(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", data=np.array([file["mean"].ref]), dtype=h5py.ref_dtype)


def _compound(file: h5py.File, folder: Path) -> None:
    file["x"] = np.zeros(2, [("a", "i4"), ("b", "f8")])


def _vlen_text(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype())


def _vlen_numbers(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(2,), dtype=h5py.vlen_dtype(np.int32))


def _named_type(file: h5py.File, folder: Path) -> None:
    file["x"] = np.dtype("f8")


def _other_filter(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", data=np.arange(100), compression="lzf")


def _scale_offset(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", data=np.arange(100), scaleoffset=0)


def _bomb(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(2**20, 2**20), dtype="f8", chunks=(64, 64), compression="gzip")


def _many_small_bombs(file: h5py.File, folder: Path) -> None:
    for number in range(40):
        file.create_dataset(f"x{number}", shape=(2**22,), dtype="f8", chunks=(2**16,), compression="gzip")


def _resizable(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(4,), maxshape=(None,), dtype="f8")


def _big_chunk(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", shape=(2**24,), dtype="f8", chunks=(2**24,))


def _deep(file: h5py.File, folder: Path) -> None:
    file["/".join("abcdefghijkl")] = 1.0


def _many(file: h5py.File, folder: Path) -> None:
    for number in range(10_001):
        file.create_group(f"g{number}")


def _many_attributes(file: h5py.File, folder: Path) -> None:
    for number in range(1_001):
        file.attrs[f"a{number}"] = 1


def _compound_attribute(file: h5py.File, folder: Path) -> None:
    file.attrs["x"] = np.zeros(2, [("a", "i4")])


def _reference_attribute(file: h5py.File, folder: Path) -> None:
    file.attrs["x"] = file["mean"].ref


def _dangling_link(file: h5py.File, folder: Path) -> None:
    file["x"] = h5py.SoftLink("/nothing")


TRICKS = {
    _external_link: "an external link",
    _soft_link: "a soft or user-defined link",
    _dangling_link: "a soft or user-defined link",
    _hard_link_loop: "an object with several links",
    _external_storage: "external storage",
    _virtual: "a virtual dataset",
    _reference: "a type that is neither a number nor text",
    _compound: "a type that is neither a number nor text",
    _vlen_text: "text of variable length",
    _vlen_numbers: "a type that is neither a number nor text",
    _named_type: "neither a group nor a dataset",
    _other_filter: "filters .32000. that are not ours",
    _scale_offset: "filters .6. that are not ours",
    _bomb: "larger than the limit",
    _many_small_bombs: "larger than the limit",
    _resizable: "a dataset that can grow",
    _big_chunk: "chunks of 134217728 bytes",
    _deep: "nested deeper than 8",
    _many: "more than 10000 objects",
    _many_attributes: "more than 1000 attributes",
    _compound_attribute: "a type that is neither a number nor text",
    _reference_attribute: "a type that is neither a number nor text",
}


@pytest.mark.parametrize(("trick", "words"), TRICKS.items(), ids=[trick.__name__[1:] for trick in TRICKS])
def test_tricks_are_refused_as_unsafe(
    trick: Callable[[h5py.File, Path], None], words: str, path: Path, tmp_path: Path
) -> None:
    with h5py.File(path, "r+") as file:
        trick(file, tmp_path)
    for action in (lambda: read(path, filetype=KIND, major=1), lambda: peek(path)):
        with pytest.raises(UnsafeError, match=rf"a\.h5: /.*{words}") as caught:
            action()
        assert caught.value.exit_code == 4


def test_limits_are_the_callers(path: Path) -> None:
    with pytest.raises(UnsafeError, match="limit of 1000 bytes"):
        read(path, filetype=KIND, major=1, max_bytes=1000)
