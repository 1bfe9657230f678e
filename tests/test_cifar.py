"""CIFAR-10 in all its forms, made from pictures of our own: the same images from each, and bad files named."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosim import cifar
from cosim.cifar import images_of, load_batches, records_of, verify_archive
from cosim.datasets import fetch, load_images
from cosim.errors import InputError

BATCH = 100
Files = Mapping[str, bytes]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels by batch: six small ones take the place of the official ones."""
    rng = np.random.default_rng(1)
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    official = {split: dict(names) for split, names in cifar.BATCHES.items()}
    for names in official.values():
        for name in names:
            made[name] = rng.integers(0, 256, (BATCH, 32, 32, 3), np.uint8), rng.integers(0, 10, BATCH).astype(np.uint8)
            names[name] = sha256(records_of(*made[name])).hexdigest()
    monkeypatch.setattr(cifar, "BATCH", BATCH)
    monkeypatch.setattr(cifar, "BATCHES", official)
    return made


def binary(name: str, images: np.ndarray, labels: np.ndarray) -> Files:
    return {f"{name}.bin": records_of(images, labels)}


def python_3(name: str, images: np.ndarray, labels: np.ndarray) -> Files:
    data = images.transpose(0, 3, 1, 2).reshape(BATCH, -1)
    content = {b"batch_label": b"one", b"labels": labels.tolist(), b"data": data, b"filenames": [b"a.png"] * BATCH}
    return {name: pickle.dumps(content, protocol=2)}


def python_2(name: str, images: np.ndarray, labels: np.ndarray) -> Files:
    """The opcodes of the official files, which Python 2 wrote: strings of bytes, and the array's state as one."""
    data = images.transpose(0, 3, 1, 2).tobytes()

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85"
        + short(b"b")
        + b"tR(K\x01K\x64M\x00\x0c\x86"
        b"cnumpy\ndtype\n("
        + short(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    )
    body = b"".join(
        [
            b"\x80\x02}(",
            short(b"data") + array + struct.pack("<i", len(data)) + data + b"tb",
            short(b"labels") + b"](" + numbers + b"e",
            short(b"batch_label") + short(b"one"),
            b"u.",
        ]
    )
    return {name: body}


def labels_of_split(name: str, batches: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    split = "test" if name == "test_batch" else "train"
    return np.concatenate([batches[each][1] for each in cifar.BATCHES[split]])


@pytest.fixture
def strip(batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> Callable[..., Files]:
    def make(name: str, images: np.ndarray, labels: np.ndarray) -> Files:
        file = "test_lables.json" if name == "test_batch" else "train_lables.json"
        picture = encoded(images.reshape(BATCH, 1024, 3), "PNG")
        return {f"{name}.png": picture, file: json.dumps(labels_of_split(name, batches).tolist()).encode()}

    return make


@pytest.fixture
def mosaic(batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> Callable[..., Files]:
    def make(name: str, images: np.ndarray, labels: np.ndarray) -> Files:
        split = "test" if name == "test_batch" else "train"
        values = labels_of_split(name, batches)
        idx = bytes((0, 0, 8, 1)) + len(values).to_bytes(4, "big") + values.tobytes()
        tiled = images.reshape(10, 10, 32, 32, 3).swapaxes(1, 2).reshape(320, 320, 3)
        picture = encoded(tiled, "WEBP", lossless=True)
        return {f"{name}.webp": picture, f"{split}-labels-idx1-ubyte.gz": gzip.compress(idx)}

    return make


@pytest.fixture(params=["binary", "python_2", "python_3", "strip", "mosaic"])
def files(request: pytest.FixtureRequest, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> Files:
    """All files of one form."""
    plain = {"binary": binary, "python_2": python_2, "python_3": python_3}
    make = plain.get(request.param) or request.getfixturevalue(request.param)
    found: dict[str, bytes] = {}
    for name, (images, labels) in batches.items():
        found |= make(name, images, labels)
    return found


def encoded(pixels: np.ndarray, kind: str, **how: bool) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def archived(files: Files, *, inside: str = "folder/") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(inside + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def put(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def assert_all(folder: Path, batches: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for split in ("train", "test"):
        found = load_batches(split, [folder])
        assert found is not None
        expected = [np.concatenate([batches[name][i] for name in cifar.BATCHES[split]]) for i in (0, 1)]
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_every_form_gives_the_same_images(
    files: Files, batches: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    assert_all(put(tmp_path, files), batches)


@pytest.mark.parametrize("name", cifar.ARCHIVES)
def test_every_form_in_an_archive(
    files: Files, batches: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path, name: str
) -> None:
    raw = archived(files)
    verify_archive(raw, "here")
    assert_all(put(tmp_path / "cifar-10", {name: raw}).parent, batches)


def test_records_and_images_are_inverse() -> None:
    images = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 32, 32, 3)
    records = np.frombuffer(records_of(images, np.array([3, 9], np.uint8)), np.uint8).reshape(2, -1)
    np.testing.assert_array_equal(records[:, 0], [3, 9])
    # The official order: all of red, then green, then blue.
    np.testing.assert_array_equal(records[0, 1:1025], images[0, :, :, 0].ravel())
    np.testing.assert_array_equal(images_of(records), images)


def test_a_changed_pixel_is_not_the_official_batch(
    files: Files, batches: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    batches["test_batch"][0][7, 1, 2, 0] ^= 1
    digest = sha256(records_of(*batches["test_batch"])).hexdigest()
    cifar.BATCHES["test"]["test_batch"] = digest
    with pytest.raises(InputError, match=r"test_batch.*: not the official batch: its SHA-256 differs"):
        load_batches("test", [put(tmp_path, files)])


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5])
def test_cut_files_are_named(files: Files, tmp_path: Path, kept: float) -> None:
    cut = {
        name: raw if "label" in name or "lables" in name else raw[: int(kept * len(raw)) if kept == 0.5 else int(kept)]
        for name, raw in files.items()
    }
    with pytest.raises(InputError, match=f"{tmp_path}: (data|test)_batch.*(damaged|not the official batch)"):
        load_batches("train", [put(tmp_path, cut)])


def test_a_pickle_is_never_run(batches: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> None:
    target = tmp_path / "ran"
    code = b"cposix\nsystem\n(U" + bytes([len(f"touch {target}")]) + f"touch {target}".encode() + b"tR."
    for name in cifar.BATCHES["test"]:
        put(tmp_path, {name: code})
    with pytest.raises(InputError, match="expected 100 images and labels in the pickle, got 0 labels"):
        load_batches("test", [tmp_path])
    assert not target.exists()


def test_archives_are_read_in_memory_only(batches: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path) -> None:
    """Links, absolute paths and parents in an archive: nothing is written, and links are passed over."""
    files = {name: content for batch in batches for name, content in binary(batch, *batches[batch]).items()}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        link = tarfile.TarInfo("test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name, content in files.items():
            member = tarfile.TarInfo(f"../../{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    put(tmp_path / "data", {cifar.ARCHIVES[0]: raw.getvalue()})
    assert_all(tmp_path / "data", batches)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [cifar.ARCHIVES[0]]


@pytest.mark.parametrize("cut", [10, 200, -30_000])
def test_a_cut_archive_is_named(batches: dict[str, tuple[np.ndarray, np.ndarray]], tmp_path: Path, cut: int) -> None:
    files = {name: content for batch in batches for name, content in binary(batch, *batches[batch]).items()}
    put(tmp_path, {cifar.ARCHIVES[0]: archived(files)[:cut]})
    with pytest.raises(InputError, match=f"{cifar.ARCHIVES[0]}: the archive is cut short or damaged"):
        load_batches("train", [tmp_path])


def test_pictures_of_another_size_are_not_unpacked(
    batches: dict[str, tuple[np.ndarray, np.ndarray]], strip: Callable[..., Files], tmp_path: Path
) -> None:
    files = dict(strip("test_batch", *batches["test_batch"]))
    files["test_batch.png"] = encoded(np.zeros((5, 5, 3), np.uint8), "PNG")
    with pytest.raises(InputError, match="expected 1024 x 100 pixels, got 5 x 5"):
        load_batches("test", [put(tmp_path, files)])


def test_load_images_and_what_to_do_without(
    batches: dict[str, tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COSIM_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"cifar10: no train batches are found .*cosim data fetch cifar10"):
        load_images("cifar10", "train")
    for name, (images, labels) in batches.items():
        put(tmp_path / "data" / "cifar-10", binary(name, images, labels))
    assert load_images("cifar10", "train").images.shape == (5 * BATCH, 32, 32, 3)
    np.testing.assert_array_equal(load_images("cifar10", "test").labels, batches["test_batch"][1])


def test_fetch_keeps_a_verified_archive(
    batches: dict[str, tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COSIM_DATA", raising=False)
    files = {name: content for batch in batches for name, content in binary(batch, *batches[batch]).items()}
    asked: list[str] = []

    def opener(raw: bytes) -> Callable[[str, float], io.BytesIO]:
        return lambda address, _: asked.append(address) or io.BytesIO(raw)

    with pytest.raises(InputError, match="expected an archive with test_batch"):
        list(fetch("cifar10", opener=opener(archived({n: c for n, c in files.items() if n != "test_batch.bin"}))))
    assert not list((tmp_path / "cache" / "cosim" / "cifar10").iterdir())
    assert "fetched and verified" in next(fetch("cifar10", opener=opener(archived(files))))
    assert asked[0] == f"https://www.cs.toronto.edu/~kriz/{cifar.ARCHIVES[0]}"
    assert load_images("cifar10", "test").images.shape == (BATCH, 32, 32, 3)
    assert "there already" in next(fetch("cifar10", opener=opener(b"")))
