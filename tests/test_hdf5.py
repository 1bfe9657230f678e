"""The HDF5 contract: it comes back as it went, xarray opens it, and damage or tricks never pass in silence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim import hdf5
from cosim.errors import CosimError, InputError
from cosim.hdf5 import Content, Dataset, content_hash, peek, read, write

KIND = "cosim-test"


def example() -> Content:
    rng = np.random.default_rng(1)
    count = Dataset(np.arange(5), "1", "rows that pull down", ("count",))
    mean = Dataset(rng.random((5, 3)), "V", "mean of the bit line", ("count", "sample"))
    flipped = Dataset(rng.random((5, 3)) < 0.3, "1", "a cell flipped", ("count", "sample"))
    packed = Dataset(rng.integers(0, 2**64, (4, 2), np.uint64), "1", "weights", ("column", "word"))
    reason = Dataset(np.array([b"", b"timeout", b"crash", b"", b""]), "1", "why it failed", ("count",))
    level = Dataset(np.array([0.2, 0.4, 0.6], np.float32), "V", "reference", ("level",))
    datasets = {"count": count, "mean": mean, "flipped": flipped, "packed": packed, "reason": reason}
    datasets |= {"sense/level": level, "sense/sigma": Dataset(level.values / 20, "V", "offset", ("level",))}
    attributes: dict[str, hdf5.Attribute] = {"netlist": "r1 a b 1k µ\n" * 10, "seed": 7, "temp_c": 27.0}
    return Content({**attributes, "corners": ["tt", "ss"], "counts": [0, 64], "note": "", "none": []}, datasets)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    write(path, example(), filetype=KIND, version=(1, 2))
    return path


def image(path: Path) -> bytes:
    return path.read_bytes()


# --- What went in comes out ---


def test_content_comes_back(path: Path) -> None:
    before, after = example(), read(path, filetype=KIND, major=1)
    assert set(after.datasets) == set(before.datasets)
    for name, item in before.datasets.items():
        back = after.datasets[name]
        assert back.values.dtype == item.values.dtype
        np.testing.assert_array_equal(back.values, item.values)
        assert (back.units, back.long_name, back.axes) == (item.units, item.long_name, item.axes)
    assert {name: after.attributes[name] for name in before.attributes} == before.attributes
    assert content_hash(after) == content_hash(before)


def test_header_says_what_when_and_by_whom(path: Path) -> None:
    attributes = read(path, filetype=KIND, major=1).attributes
    assert attributes["filetype"] == KIND
    assert attributes["version"] == [1, 2]
    age = datetime.now(UTC) - datetime.fromisoformat(str(attributes["created_at"]))
    assert -5 < age.total_seconds() < 600
    assert attributes["cosim_version"]
    assert peek(path) == (KIND, (1, 2))


def test_version_falls_back_without_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_: str) -> str:
        raise hdf5.metadata.PackageNotFoundError

    monkeypatch.setattr(hdf5.metadata, "version", missing)
    write(tmp_path / "a.h5", Content(), filetype=KIND, version=(1, 0))
    assert read(tmp_path / "a.h5", filetype=KIND, major=1).attributes["cosim_version"] == "0+unknown"


def test_read_content_can_be_written_again(path: Path, tmp_path: Path) -> None:
    content = read(path, filetype=KIND, major=1)
    write(tmp_path / "b.h5", content, filetype="other", version=(3, 0))
    again = read(tmp_path / "b.h5", filetype="other", major=3)
    assert content_hash(again) == content_hash(content)
    assert again.attributes["version"] == [3, 0]


def test_long_text_and_big_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((300, 1000))
    content = Content({"netlist": "x" * 200_000}, {"v": Dataset(values, "V", "v", ("sample", "row"))})
    write(tmp_path / "a.h5", content, filetype=KIND, version=(1, 0))
    back = read(tmp_path / "a.h5", filetype=KIND, major=1)
    assert back.attributes["netlist"] == content.attributes["netlist"]
    np.testing.assert_array_equal(back.datasets["v"].values, values)


def test_empty_and_scalar_arrays_and_big_endian(tmp_path: Path) -> None:
    none = Dataset(np.zeros((0, 3)), "V", "none yet", ("sample", "row"))
    one = Dataset(np.array(3.5), "V", "one", ())
    other = Dataset(np.arange(3, dtype=">i4"), "1", "row", ("row",))
    content = Content({}, {"none": none, "one": one, "row": other})
    write(tmp_path / "a.h5", content, filetype=KIND, version=(1, 0))
    back = read(tmp_path / "a.h5", filetype=KIND, major=1)
    assert back.datasets["none"].values.shape == (0, 3)
    assert back.datasets["one"].values == 3.5
    np.testing.assert_array_equal(back.datasets["row"].values, [0, 1, 2])


def test_xarray_opens_it(path: Path) -> None:
    with xarray.open_dataset(path, engine="h5netcdf") as opened:
        assert opened["mean"].dims == ("count", "sample")
        assert opened["mean"].attrs == {"units": "V", "long_name": "mean of the bit line", "axes": "count sample"}
        np.testing.assert_array_equal(opened["mean"].coords["count"], np.arange(5))
        assert opened["flipped"].dtype == np.bool_
        assert opened.sizes == {"count": 5, "sample": 3, "column": 4, "word": 2}
        assert opened.attrs["filetype"] == KIND
        np.testing.assert_array_equal(opened["packed"], example().datasets["packed"].values)
    with xarray.open_dataset(path, engine="h5netcdf", group="sense") as opened:
        assert opened["sigma"].dims == ("level",)
        assert "level" in opened.coords


def test_coordinates_hold_in_groups_below(tmp_path: Path) -> None:
    count = Dataset(np.arange(4), "1", "count", ("count",))
    content = Content({}, {"count": count, "bl/mean": Dataset(np.zeros(4), "V", "mean", ("count",))})
    write(tmp_path / "a.h5", content, filetype=KIND, version=(1, 0))
    assert read(tmp_path / "a.h5", filetype=KIND, major=1).datasets["bl/mean"].axes == ("count",)
    with xarray.open_dataset(tmp_path / "a.h5", engine="h5netcdf", group="bl") as opened:
        assert opened["mean"].dims == ("count",)


def test_every_array_has_a_checksum(path: Path) -> None:
    with h5py.File(path) as file:
        arrays = [file[name] for name in example().datasets]
        assert all(array.fletcher32 for array in arrays)


# --- The hash ---


def test_hash_ignores_order_and_time(tmp_path: Path) -> None:
    content = example()
    turned = Content(dict(reversed(content.attributes.items())), dict(reversed(content.datasets.items())))
    assert content_hash(turned) == content_hash(content)
    later = Content({**content.attributes, "created_at": "2001-01-01"}, content.datasets)
    assert content_hash(later) == content_hash(content)


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.arange(1, 6)},
        {"values": np.arange(5, dtype=np.int32)},
        {"units": "V"},
        {"long_name": "something else"},
        {"axes": ("level",)},
    ],
)
def test_hash_sees_each_part(change: dict[str, object]) -> None:
    content, count = example(), example().datasets["count"]
    parts = {"values": count.values, "units": "1", "long_name": count.long_name, "axes": count.axes} | change
    changed = Content(content.attributes, {**content.datasets, "count": Dataset(**parts)})  # type: ignore[arg-type]
    assert content_hash(changed) != content_hash(content)


def test_hash_sees_attributes_and_names() -> None:
    content = example()
    hashes = {content_hash(content)}
    hashes.add(content_hash(Content({**content.attributes, "seed": 8}, content.datasets)))
    hashes.add(content_hash(Content({**content.attributes, "seed": 7.0}, content.datasets)))
    hashes.add(content_hash(Content({**content.attributes, "seed": "7"}, content.datasets)))
    renamed = {name.replace("count", "counts"): item for name, item in content.datasets.items()}
    hashes.add(content_hash(Content(content.attributes, renamed)))
    assert len(hashes) == 5


# --- Wrong content is refused before anything is written ---


def one(values: np.ndarray, axes: tuple[str, ...] = ("row",), name: str = "v") -> Content:
    return Content({}, {name: Dataset(values, "1", "x", axes)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (one(np.array(["a", "b"])), "<U1"),
        (one(np.array([object()])), "object"),
        (one(np.zeros(2, complex)), "complex128"),
        (one(np.zeros(2, np.float16)), "float16"),
        (one(np.zeros((2, 3))), "2 different axes"),
        (one(np.zeros((2, 2)), ("row", "row")), "2 different axes"),
        (one(np.zeros(2), ("a/b",)), "'a/b'"),
        (one(np.zeros(2), name="../v"), "letters"),
        (one(np.zeros(2), name="a//v"), "letters"),
        (Content({"x": object()}), "'x'"),  # type: ignore[dict-item]
        (Content({"x": 2**70}), "64 bits"),
        (Content({"x": "a\0"}), "NUL"),
        (Content({"x": ["a", 1]}), "'x'"),  # type: ignore[list-item]
        (Content({}, {**one(np.zeros(2)).datasets, **one(np.zeros(3), name="w").datasets}), "length 2"),
        (Content({}, {**one(np.arange(3), name="row").datasets, **one(np.zeros(2)).datasets}), "length 2"),
        (Content({}, {**one(np.zeros(2)).datasets, **one(np.zeros(2), ("i",), "row").datasets}), "'row'"),
        (Content({}, {**one(np.zeros(2)).datasets, **one(np.zeros(2), name="v/w").datasets}), "no group"),
    ],
)
def test_wrong_content_is_refused(content: Content, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        write(tmp_path / "a.h5", content, filetype=KIND, version=(1, 0))
    assert str(tmp_path / "a.h5") in str(caught.value)
    assert not list(tmp_path.iterdir())


# --- Damage ---


def test_cut_files_are_refused(path: Path) -> None:
    whole = image(path)
    for size in [0, 4, 8, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.h5: "):
            read(path, filetype=KIND, major=1)


def test_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    text = tmp_path / "b.h5"
    text.write_text("no HDF5")
    with pytest.raises(InputError, match="expected an HDF5 file"):
        read(text, filetype=KIND, major=1)
    with pytest.raises(InputError, match=r"type 'samples', got 'cosim-test'"):
        read(path, filetype="samples", major=1)
    with pytest.raises(InputError, match=r"version 2\.x, got 1\.2"):
        read(path, filetype=KIND, major=2)
    with pytest.raises(InputError, match=r"No such file"):
        read(tmp_path / "missing.h5", filetype=KIND, major=1)
    with pytest.raises(InputError, match="folder"):
        read(tmp_path, filetype=KIND, major=1)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(InputError, match=r"not one of cosim's"):
        peek(tmp_path / "c.h5")


def test_a_newer_minor_version_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", example(), filetype=KIND, version=(1, 9))
    assert read(tmp_path / "a.h5", filetype=KIND, major=1).attributes["version"] == [1, 9]


def test_byte_flips_never_give_wrong_data(path: Path, tmp_path: Path) -> None:
    """Seeded: 400 flips of one byte each; the file is refused or its content and header are the same."""
    whole, rng = image(path), np.random.default_rng(20260101)
    good = read(path, filetype=KIND, major=1)
    wanted = (content_hash(good), good.attributes["created_at"], good.attributes["version"])
    damaged, refused = tmp_path / "b.h5", 0
    for offset, flip in zip(rng.integers(0, len(whole), 400), rng.integers(1, 256, 400), strict=True):
        raw = bytearray(whole)
        raw[offset] ^= flip
        damaged.write_bytes(raw)
        try:
            back = read(damaged, filetype=KIND, major=1)
        except CosimError:
            refused += 1
        else:
            assert (content_hash(back), back.attributes["created_at"], back.attributes["version"]) == wanted
    # Most bytes of this small file are padding between objects; some flips must hit something.
    assert refused > 40


@pytest.mark.parametrize("name", ["seed", "created_at", "cosim_version"])
def test_a_changed_attribute_is_seen(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as file:
        value = file.attrs[name]
        file.attrs[name] = value + 1 if name == "seed" else np.bytes_(b"2001-01-01T00:00:00+00:00")
    with pytest.raises(InputError, match="damaged"):
        read(path, filetype=KIND, major=1)


def test_changed_values_axes_and_units_are_seen(path: Path) -> None:
    whole = image(path)
    for change in (_other_value, _other_axis, _other_units, _extra_dataset, _lost_dataset):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(InputError):
            read(path, filetype=KIND, major=1)


def _other_value(file: h5py.File) -> None:
    file["mean"][0, 0] += 1e-9


def _other_axis(file: h5py.File) -> None:
    file["packed"].attrs["axes"] = np.bytes_(b"word column")


def _other_units(file: h5py.File) -> None:
    file["mean"].attrs["units"] = "A"


def _extra_dataset(file: h5py.File) -> None:
    file["extra"] = 1.0


def _lost_dataset(file: h5py.File) -> None:
    del file["packed"]


def test_unknown_attributes_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["mean"].attrs["scale_factor"] = 2.0  # xarray would multiply with it.
    with pytest.raises(InputError, match="scale_factor"):
        read(path, filetype=KIND, major=1)


def test_text_of_variable_length_is_not_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "text in the global heap"
    with pytest.raises(InputError, match="'note': expected text of fixed length"):
        read(path, filetype=KIND, major=1)


def test_a_damaged_global_heap_does_no_harm(path: Path) -> None:
    """HDF5 loops for ever over a heap object of size 0, so nothing may look into the heap."""
    raw, start = bytearray(image(path)), image(path).index(b"GCOL")
    raw[start + 16 : start + 4096] = bytes(4080)
    path.write_bytes(raw)
    assert content_hash(read(path, filetype=KIND, major=1)) == content_hash(example())


# --- Full disks and folders that cannot be written ---


def test_full_disk_leaves_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image(path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write(path, Content(), filetype=KIND, version=(1, 0))
    assert image(path) == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from cosim.hdf5 import *; from cosim.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try: write(Path(sys.argv[1]), Content(), filetype='t', version=(1, 0))\n"
        "except InputError as error: print(error); sys.exit(error.exit_code)\n"
    )
    target = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "a.h5", tmp_path / "missing" / "a.h5", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            write(target, Content(), filetype=KIND, version=(1, 0))
    assert os.listdir(tmp_path) == ["file"]


# --- Any content ---

NAMES = st.text("abcdefgh", min_size=1, max_size=4)
ATTRIBUTES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.floats(allow_nan=False), max_size=4),
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4),
)
TYPES = st.sampled_from([np.bool_, np.int8, np.uint16, np.int64, np.uint64, np.float32, np.float64])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, ATTRIBUTES, max_size=4), st.lists(st.tuples(TYPES, st.integers(0, 5)), max_size=3))
def test_any_content_comes_back(
    tmp_path: Path, attributes: dict[str, hdf5.Attribute], arrays: list[tuple[type, int]]
) -> None:
    datasets = {
        f"v{number}": Dataset((np.arange(length) * 37 % 11).astype(dtype), "1", f"number {number}", (f"x{number}",))
        for number, (dtype, length) in enumerate(arrays)
    }
    content = Content(attributes, datasets)
    write(tmp_path / "a.h5", content, filetype=KIND, version=(1, 0))
    back = read(tmp_path / "a.h5", filetype=KIND, major=1)
    assert content_hash(back) == content_hash(content)
    assert {name: back.attributes[name] for name in attributes} == attributes
