"""Data sets are the official bytes or are refused by name; fetching is verified and leaves no half file."""

from __future__ import annotations

import gzip
import struct
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cosim import datasets
from cosim.datasets import FILES, IdxFile, fetch, load_images
from cosim.download import HttpsOnly
from cosim.errors import InputError
from cosim.idx import read_idx

FILE = FILES["fashion_mnist"]["test"][1]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """No data from the developer's own folders, unless the test says so."""
    if "real" not in request.node.name:
        monkeypatch.delenv("COSIM_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path / "debian")


# --- Small official files of our own ---


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def small(monkeypatch: pytest.MonkeyPatch, seed: int = 0, labels: int = 10) -> dict[str, dict[str, bytes]]:
    """Replace the official files by data sets of six images; returns their bytes by data set and name."""
    rng, contents, table = np.random.default_rng(seed), {}, {}
    for name in FILES:
        contents[name], table[name] = {}, {}
        for split, prefix in (("train", "train"), ("test", "t10k")):
            arrays = rng.integers(0, 256, (6, 28, 28), np.uint8), rng.integers(0, labels, 6).astype(np.uint8)
            files = []
            for stem, array in zip(("images-idx3-ubyte", "labels-idx1-ubyte"), arrays, strict=True):
                raw = idx(array)
                contents[name][f"{prefix}-{stem}"] = raw
                files.append(IdxFile(f"{prefix}-{stem}", array.shape, sha256(raw).hexdigest()))
            table[name][split] = tuple(files)
    monkeypatch.setattr(datasets, "FILES", table)
    return contents


def put(folder: Path, contents: dict[str, bytes], *, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in contents.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(raw) if packed else raw)


# --- Finding and loading ---


def test_the_real_files_are_the_official_ones() -> None:
    """Class counts and means as published (Fashion-MNIST: 1000 of each class in the test split)."""
    images = load_images("fashion_mnist", "test")
    assert images.images.shape == (10_000, 28, 28)
    np.testing.assert_array_equal(np.bincount(images.labels), 1000)
    assert round(images.images.mean() / 255, 4) == 0.2868


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "folders",
    [("", ""), ("mnist", "fashion-mnist"), ("MNIST/raw", "FashionMNIST/raw")],
    ids=["itself", "ours", "torch"],
)
def test_layouts_of_cosim_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packed: bool, folders: tuple[str, str]
) -> None:
    contents = small(monkeypatch)
    monkeypatch.setenv("COSIM_DATA", str(tmp_path / "data"))
    for name, folder in zip(FILES, folders, strict=True):
        put(tmp_path / "data" / folder, contents[name], packed=packed)
        images = load_images(name, "train")
        assert idx(images.images) == contents[name]["train-images-idx3-ubyte"]
        assert idx(images.labels) == contents[name]["train-labels-idx1-ubyte"]
        assert (images.name, images.split) == (name, "train")


def test_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    contents = small(monkeypatch)["fashion_mnist"]
    for folder in ("cache/cosim/fashion_mnist", "debian", "data"):
        put(tmp_path / folder, contents)
        if folder == "data":
            monkeypatch.setenv("COSIM_DATA", str(tmp_path / folder))
        first = next(datasets.candidates("fashion_mnist", datasets.FILES["fashion_mnist"]["test"][0]))
        assert first.parent == tmp_path / folder


def test_the_other_data_set_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    contents = small(monkeypatch)
    monkeypatch.setenv("COSIM_DATA", str(tmp_path / "data"))
    put(tmp_path / "data", contents["mnist"])
    with pytest.raises(InputError, match="is not found"):
        load_images("fashion_mnist", "test")
    put(tmp_path / "debian", contents["fashion_mnist"])
    assert load_images("fashion_mnist", "test").images.shape == (6, 28, 28)


def test_missing_data_says_what_to_run() -> None:
    with pytest.raises(InputError, match=r"cosim data fetch mnist.*COSIM_DATA"):
        load_images("mnist", "test")
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        load_images("fashion_mnist", "test")


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="known: mnist, fashion_mnist"):
        load_images("cifar", "test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'train' or 'test', got 'val'"):
        load_images("mnist", "val")  # type: ignore[arg-type]


def test_labels_out_of_range(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "debian", small(monkeypatch, labels=256)["fashion_mnist"])
    with pytest.raises(InputError, match="labels 0 to 9"):
        load_images("fashion_mnist", "test")


# --- Wrong files ---

VALUES = (np.arange(10_000) % 10).astype(np.uint8)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "expected 10008 bytes unpacked, got 0"),
        (idx(VALUES[:-1]), "expected 10008 bytes unpacked, got 10007"),
        (idx(VALUES) + b"x", "expected 10008 bytes unpacked, got more"),
        (idx(VALUES.reshape(100, 100))[:10_008], "expected an idx file of shape"),
        (idx(VALUES), "not the official file"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, raw: bytes, words: str, packed: bool) -> None:
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(InputError, match=words) as caught:
        read_idx(path, FILE)
    assert caught.value.place == str(path)


def test_cut_and_damaged_gzip(tmp_path: Path) -> None:
    whole, path = gzip.compress(idx(VALUES)), tmp_path / "labels.gz"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for raw in (whole[:3], whole[: len(whole) // 2], whole[:-1], bytes(flipped), whole[:-8] + bytes(8)):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=r"labels\.gz: "):
            read_idx(path, FILE)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = tmp_path / "labels.gz", list[int]()
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    original = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        asked.append(-1 if size is None else size)
        return original(self, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(InputError, match="got more"):
        read_idx(path, FILE)
    assert asked == [FILE.size_bytes + 1]


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_idx(tmp_path, FILE)


# --- Fetching ---


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A loopback server's address and its folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def plain(address: str, timeout_s: float) -> object:
    return urllib.request.urlopen(address, timeout=timeout_s)


def test_fetch_fills_the_cache_once(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address, folder = server
    put(folder, small(monkeypatch)["mnist"])
    lines = list(fetch("mnist", mirrors=[f"{address}/none", address], opener=plain))
    assert [line.rsplit(": ")[-1] for line in lines] == ["fetched and verified"] * 4
    assert load_images("mnist", "test").images.shape == (6, 28, 28)
    assert [line.rsplit(": ")[-1] for line in fetch("mnist", mirrors=[], opener=plain)] == ["there already"] * 4
    cached = tmp_path / "cache" / "cosim" / "mnist" / "t10k-images-idx3-ubyte.gz"
    cached.write_bytes(cached.read_bytes()[:-1])
    lines = list(fetch("mnist", mirrors=[address], opener=plain))
    assert sum("fetched" in line for line in lines) == 1


def test_fetch_refuses_a_wrong_file_and_keeps_nothing(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, folder = server
    contents = small(monkeypatch)["mnist"]
    name = "train-images-idx3-ubyte"
    put(folder, {**contents, name: contents[name][:-1] + b"?"})
    with pytest.raises(InputError, match=f"{name}.gz could not be fetched: .*not the official file"):
        list(fetch("mnist", mirrors=[address], opener=plain))
    put(folder, {**contents, name: contents[name] + bytes(10**6)})
    with pytest.raises(InputError, match="could not be fetched"):
        list(fetch("mnist", mirrors=[address], opener=plain))
    assert not list((tmp_path / "cache" / "cosim" / "mnist").iterdir())


def test_fetch_is_https_only(server: tuple[str, Path]) -> None:
    assert all(mirror.startswith("https://") for mirrors in datasets.MIRRORS.values() for mirror in mirrors)
    with pytest.raises(InputError, match="expected an https address"):
        list(fetch("mnist", mirrors=[server[0]]))
    with pytest.raises(InputError, match="expected an https address"):
        list(fetch("mnist", mirrors=["file:///etc"]))


def test_redirections_stay_encrypted() -> None:
    redirects = HttpsOnly()
    request = urllib.request.Request("https://a.example/x")
    with pytest.raises(OSError, match="not https"):
        redirects.redirect_request(request, None, 302, "Found", {}, "http://a.example/x")
    assert redirects.redirect_request(request, None, 302, "Found", {}, "https://b.example/x") is not None


def test_fetch_into_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be made"):
        list(fetch("mnist", mirrors=[], opener=plain))
