"""Where each key of a TOML text stands; used only to tell a user where an error is."""

from __future__ import annotations

import tomllib

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

KeyPath = tuple[str | int, ...]


def key_places(text: str) -> dict[KeyPath, tuple[int, int]]:
    """Line and column (from 1, in characters) of every key, table header and list entry of a valid TOML text.

    >>> key_places("a = 1\\n[[t]]\\nb = [1, 2]\\n")[("t", 0, "b", 1)]
    (3, 9)
    """
    source = text.encode()
    walk = _Walk(source.split(b"\n"))
    for node in Parser(Language(tree_sitter_toml.language())).parse(source).root_node.named_children:
        walk.top(node)
    return walk.places


class _Walk:
    """One pass over a syntax tree; remembers how many entries each array of tables has so far."""

    def __init__(self, lines: list[bytes]) -> None:
        self.places: dict[KeyPath, tuple[int, int]] = {}
        self._lines = lines
        self._last: dict[KeyPath, int] = {}

    def top(self, node: Node) -> None:
        if node.type == "pair":
            self._pair(node, ())
        elif node.type in ("table", "table_array_element"):
            header, *pairs = [child for child in node.named_children if child.type != "comment"]
            path = self._header(header, is_array=node.type == "table_array_element")
            for pair in pairs:
                self._pair(pair, path)

    def _header(self, header: Node, *, is_array: bool) -> KeyPath:
        path: KeyPath = ()
        keys = _keys(header)
        for number, (name, node) in enumerate(keys, start=1):
            path = (*path, name)
            if is_array and number == len(keys):
                self._last[path] = self._last.get(path, -1) + 1
            self._note(path, node)
            if path in self._last:
                path = (*path, self._last[path])
                self._note(path, node)
        return path

    def _pair(self, node: Node, path: KeyPath) -> None:
        if node.type != "pair":
            return
        key, *values = [child for child in node.named_children if child.type != "comment"]
        for name, part in _keys(key):
            path = (*path, name)
            self._note(path, part)
        for value in values:
            self._value(value, path)

    def _value(self, node: Node, path: KeyPath) -> None:
        if node.type == "inline_table":
            for child in node.named_children:
                self._pair(child, path)
        elif node.type == "array":
            entries = [child for child in node.named_children if child.type != "comment"]
            for index, child in enumerate(entries):
                self._note((*path, index), child)
                self._value(child, (*path, index))

    def _note(self, path: KeyPath, node: Node) -> None:
        row, offset = node.start_point
        column = len(self._lines[row][:offset].decode(errors="replace")) + 1
        self.places.setdefault(path, (row + 1, column))


def _keys(node: Node) -> list[tuple[str, Node]]:
    """The names of a bare, quoted or dotted key, outermost first."""
    if node.type == "dotted_key":
        return [key for child in node.named_children for key in _keys(child)]
    written = (node.text or b"").decode()
    if node.type == "quoted_key":
        return [(str(tomllib.loads(f"key = {written}")["key"]), node)]
    return [(written, node)]
