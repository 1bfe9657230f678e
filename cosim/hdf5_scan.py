"""Safety scan of an opened HDF5 file, before anything in it is read.

HDF5 opens other files by design (external links and storage, virtual datasets), loads filter plug-ins, and
lets a small file claim any size. The scan walks the whole file with the low-level interface, which follows
nothing, and refuses all that this project does not write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]

from cosim.errors import UnsafeError
from cosim.hdf5_content import MAX_TEXT_BYTES

MAX_DEPTH = 8
MAX_OBJECTS = 10_000
MAX_ATTRIBUTES = 1_000
MAX_ATTRIBUTE_BYTES = 16 * 2**20
MAX_CHUNK_BYTES = 64 * 2**20

_FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
_PLAIN = (h5t.INTEGER, h5t.FLOAT, h5t.STRING)
_SCALES = {b"DIMENSION_LIST": h5t.VLEN, b"REFERENCE_LIST": h5t.COMPOUND}


def scan(root: Any, *, place: str, max_bytes: int) -> None:
    """Walk every link, object and attribute below a group; refuse what reaches outside or fills the memory.

    Args:
        root: The low-level identifier of the root group.
        place: The file's name for error messages.
        max_bytes: Largest sum of all datasets' and attributes' sizes once unpacked.

    Raises:
        UnsafeError: Something is not a plain dataset or group that this project writes.
    """
    walk = _Walk(place, max_bytes)
    walk.attributes(root, "/")
    pending: list[tuple[Any, str, int]] = [(root, "", 1)]
    while pending:
        group, path, depth = pending.pop()
        for name in _names(group, walk):
            child = walk.link(group, name, f"{path}/{name.decode('utf-8', 'replace')}")
            if child is not None:
                pending.append((child, f"{path}/{name.decode('utf-8', 'replace')}", depth + 1))
                walk.expect(depth < MAX_DEPTH, path, f"groups are nested deeper than {MAX_DEPTH}")


def _names(group: Any, walk: _Walk) -> list[bytes]:
    walk.count(int(group.get_num_objs()))
    return list(group)


@dataclass(slots=True)
class _Walk:
    """What has been seen so far, and the checks of one object."""

    place: str
    max_bytes: int
    bytes: int = 0
    objects: int = 0
    seen: set[int] = field(default_factory=set[int])

    def expect(self, good: bool, path: str, what: str) -> None:
        if not good:
            raise UnsafeError(f"{path or '/'}: {what}", place=self.place, hint="read only files that you trust")

    def count(self, more: int) -> None:
        self.objects += more
        self.expect(self.objects <= MAX_OBJECTS, "/", f"more than {MAX_OBJECTS} objects")

    def grow(self, size: int, path: str) -> None:
        self.bytes += size
        limit = f"the content is larger than the limit of {self.max_bytes} bytes"
        self.expect(self.bytes <= self.max_bytes, path, limit)

    def link(self, group: Any, name: bytes, path: str) -> Any | None:
        """Check one link and its object; returns the object if it is a group to go into."""
        kind = group.links.get_info(name).type
        self.expect(kind != h5l.TYPE_EXTERNAL, path, "an external link (it reads another file)")
        self.expect(kind == h5l.TYPE_HARD, path, "a soft or user-defined link")
        info = h5o.get_info(group, name)
        self.expect(info.rc == 1 and info.addr not in self.seen, path, "an object with several links")
        self.seen.add(info.addr)
        item = h5o.open(group, name)
        self.attributes(item, path)
        if isinstance(item, h5g.GroupID):
            return item
        self.expect(isinstance(item, h5d.DatasetID), path, "neither a group nor a dataset")
        self.dataset(item, path)
        return None

    def dataset(self, item: Any, path: str) -> None:
        plist = item.get_create_plist()
        layout = plist.get_layout()
        # Storage comes first: asking a virtual dataset for its shape may already open its sources.
        self.expect(layout != h5d.VIRTUAL, path, "a virtual dataset (it reads other files)")
        self.expect(plist.get_external_count() == 0, path, "external storage (it reads another file)")
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        self.expect(all(code in _FILTERS for code in filters), path, f"filters {filters} that are not ours")
        self.expect(len(set(filters)) == len(filters), path, "the same filter twice")
        size = self.plain(item.get_type(), path)
        space = item.get_space()
        self.expect(space.is_simple(), path, "no simple array")
        shape = space.get_simple_extent_dims()
        self.expect(space.get_simple_extent_dims(maxdims=True) == shape, path, "a dataset that can grow")
        self.grow(_product(shape) * size, path)
        if layout == h5d.CHUNKED:
            chunk = _product(plist.get_chunk()) * size
            self.expect(chunk <= MAX_CHUNK_BYTES, path, f"chunks of {chunk} bytes")

    def attributes(self, item: Any, path: str) -> None:
        number = int(h5a.get_num_attrs(item))
        self.expect(number <= MAX_ATTRIBUTES, path, f"more than {MAX_ATTRIBUTES} attributes")
        for index in range(number):
            attribute = h5a.open(item, index=index)
            type_, where = attribute.get_type(), f"{path} {attribute.name.decode('utf-8', 'replace')}"
            size = _product(attribute.get_space().get_simple_extent_dims()) * int(type_.get_size())
            self.expect(size <= MAX_ATTRIBUTE_BYTES, where, f"an attribute of {size} bytes")
            self.grow(size, where)
            if _SCALES.get(attribute.name) != type_.get_class():
                self.plain(type_, where, MAX_ATTRIBUTE_BYTES, variable=True)
            elif type_.get_class() == h5t.VLEN:
                inner = type_.get_super().get_class()
                self.expect(inner == h5t.REFERENCE, where, "a variable-length type")

    def plain(self, type_: Any, path: str, text_bytes: int = MAX_TEXT_BYTES, *, variable: bool = False) -> int:
        """Bytes of one element of a number or text type; every other type is refused."""
        class_, size = type_.get_class(), int(type_.get_size())
        self.expect(class_ in _PLAIN, path, "a type that is neither a number nor text")
        limit = text_bytes if class_ == h5t.STRING else 8
        self.expect(size <= limit, path, f"elements of {size} bytes")
        if class_ == h5t.STRING:
            self.expect(variable or not type_.is_variable_str(), path, "text of variable length")
        return size


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= int(length)
    return total
