"""TOML files into frozen dataclasses; a wrong key or value is one line with file, line and column.

Values are taken strictly: a number is not read from a string, nor a whole number from 64.0; a float field
takes a whole number. Not-a-number and infinity are refused. A TOML date arrives as its ISO text. Constraints
are pydantic's: `Annotated[float, Field(gt=0)]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, Union, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, SchemaValidator

from cosim.errors import CosimError, InputError
from cosim.text_files import read_text

T = TypeVar("T")
KeyPath = tuple[str | int, ...]


def load_toml(path: Path, type_: type[T]) -> T:
    """The dataclass that a TOML file of at most 1 MiB describes.

    Raises:
        InputError: The file cannot be read, is no TOML, or has a wrong, missing or unknown key.
    """
    return parse_toml(read_text(path), type_, place=str(path))


def parse_toml(text: str, type_: type[T], *, place: str) -> T:
    """The dataclass that a TOML text describes; unknown keys are refused at any depth.

    Args:
        text: The TOML text.
        type_: A dataclass, nested as deep as needed.
        place: The name of the text for error messages, usually its file.

    Raises:
        InputError: As load_toml; only the first error is told, with the number of the others.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Bias:
    ...     vdd_v: float
    >>> parse_toml("vdd_v = 1", Bias, place="bias.toml")
    Bias(vdd_v=1.0)
    """
    data = _syntax(text, place)
    try:
        return cast(T, _validator(type_).validate_json(json.dumps(data, default=_iso), strict=True))
    except ValidationError as error:
        first, *others = _all(error, type_, data, text, place)
        more = f", and {len(others)} more" if others else ""
        raise InputError(first.message + more, place=first.place, hint=first.hint) from error
    except CosimError as error:
        if error.place is None:
            raise type(error)(error.message, place=place, hint=error.hint) from error
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected ordinary nesting and numbers: {error}", place=place) from error


def toml_problems(text: str, type_: type[Any], *, place: str) -> list[InputError]:
    """Everything that is wrong in a TOML text, in the order in which it should be read; empty where it is good.

    Args:
        text: The TOML text.
        type_: The dataclass that it should describe.
        place: The name of the text for error messages, usually its file.
    """
    try:
        parse_toml(text, type_, place=place)
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            return _all(cause, type_, _syntax(text, place), text, place)
        return [error]
    return []


# --- Reading ---


def _syntax(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, at = str(error), re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        if at:
            where, message = f":{at[1]}:{at[2]}", message[: at.start()]
        else:
            where, message = f":{text.count(chr(10)) + 1}", message.removesuffix(" (at end of document)")
        raise InputError(f"not valid TOML: {message}", place=place + where) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid TOML: {error}", place=place) from error


def _iso(value: object) -> str:
    return str(cast(Any, value).isoformat())


@functools.cache
def _validator(type_: type[Any]) -> SchemaValidator:
    return SchemaValidator(_stricter(TypeAdapter(type_).core_schema))


def _stricter(node: Any) -> Any:
    """The schema with unknown keys and infinite numbers refused, at every depth."""
    if isinstance(node, list | tuple):
        return type(node)(_stricter(item) for item in cast(Iterable[Any], node))
    if not isinstance(node, dict):
        return node
    changed = {key: _stricter(value) for key, value in cast(dict[Any, Any], node).items()}
    if changed.get("type") == "dataclass-args":
        changed["extra_behavior"] = "forbid"
    if changed.get("type") == "float":
        changed.setdefault("allow_inf_nan", False)
    return changed


# --- Errors ---

_NOTHING = object()
_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "a string",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a table",
    "finite_number": "a finite number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_too_short": "a string of at least {min_length} characters",
    "string_too_long": "a string of at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "union_tag_invalid": "{discriminator} to be one of {expected_tags}",
    "union_tag_not_found": "a table with the key {discriminator}",
}


def _all(error: ValidationError, type_: type[Any], data: dict[str, Any], text: str, place: str) -> list[InputError]:
    """One error a key: unknown keys before wrong values before missing keys, then by place in the file."""
    from cosim.toml_places import key_places  # tree-sitter is needed only to tell where an error is.

    places = key_places(text)
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path(detail["loc"], data), []).append(detail)
    for path in [p for p in found if any(q != p and q[: len(p)] == p for q in found)]:
        # The other arms of a union: a list was given, so "expected a number" does not help.
        if all(detail["type"].endswith("_type") for detail in found[path]):
            del found[path]
    rank = {"unexpected_keyword_argument": 0, "missing": 2}
    at = {path: _place_of(path, places) for path in found}
    ordered = sorted(found, key=lambda p: (rank.get(found[p][0]["type"], 1), at[p]))
    told = {path: _describe(path, found[path], type_) for path in ordered}
    return [
        InputError(message, place=f"{place}:{at[path][0]}:{at[path][1]}", hint=hint)
        for path, (message, hint) in told.items()
    ]


def _path(loc: tuple[int | str, ...], data: object) -> KeyPath:
    """The keys of an error's location; labels that pydantic adds for the arms of a union are dropped."""
    path: KeyPath = ()
    for position, part in enumerate(loc):
        entry = _entry(data, part)
        if entry is not _NOTHING:
            path, data = (*path, part), entry
        elif isinstance(data, dict) and position == len(loc) - 1 and isinstance(part, str):
            path = (*path, part)  # A missing key.
    return path


def _entry(data: object, part: int | str) -> object:
    """What a table holds under a key or a list at an index, or _NOTHING."""
    if isinstance(data, dict):
        return cast(dict[str | int, object], data).get(part, _NOTHING)
    if isinstance(data, list) and isinstance(part, int) and part < len(cast(list[object], data)):
        return cast(list[object], data)[part]
    return _NOTHING


def _place_of(path: KeyPath, places: dict[KeyPath, tuple[int, int]]) -> tuple[int, int]:
    while path and path not in places:
        path = path[:-1]
    return places.get(path, (1, 1))


def _describe(path: KeyPath, details: list[ErrorDetails], type_: type[Any]) -> tuple[str, str | None]:
    """The message and the hint of all errors of one key (several where its type is a union)."""
    first, name = details[0], _name(path)
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown key {name}", _suggestion(str(path[-1]), _known(type_, path[:-1]))
    if first["type"] == "missing":
        return f"the key {name} is missing", None
    if first["type"] in ("value_error", "assertion_error"):
        return f"{name}: {first['ctx']['error'] if 'ctx' in first else first['msg']}", None
    expected = list(dict.fromkeys(_expected(detail) for detail in details))
    hint = None
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        hint = _suggestion(first["input"], re.findall(r"'([^']*)'", _expected(first)), listed=False)
    return f"{name}: expected {' or '.join(expected)}, got {_shown(first['input'])}", hint


def _name(path: KeyPath) -> str:
    """The keys as TOML writes them, entries of a list counted from 1.

    >>> _name(("points", 0, "count"))
    "'points[1].count'"
    """
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path]
    return repr("".join(parts).removeprefix(".")) if parts else "the file"


def _expected(detail: ErrorDetails) -> str:
    template = _EXPECTED.get(detail["type"])
    if template is None:
        return detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    try:
        return template.format(**detail.get("ctx", {}))
    except (KeyError, ValueError):
        return detail["msg"].removeprefix("Input should be ")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"a list of {len(cast(list[object], value))}"
    if isinstance(value, dict):
        return "a table"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _suggestion(given: str, known: list[str], *, listed: bool = True) -> str | None:
    close = difflib.get_close_matches(given, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known keys: {', '.join(known)}" if known and listed else None


def _known(type_: object, path: KeyPath) -> list[str]:
    """The field names of the dataclasses that may stand at a path."""
    arms = _arms(type_)
    for part in path:
        arms = [arm for step in arms for arm in _arms(_step(step, part))]
    return list(dict.fromkeys(f.name for arm in arms if dataclasses.is_dataclass(arm) for f in dataclasses.fields(arm)))


def _arms(type_: object) -> list[Any]:
    origin = typing.get_origin(type_)
    if origin is typing.Annotated:
        return _arms(typing.get_args(type_)[0])
    if origin in (Union, types.UnionType):
        return [arm for choice in typing.get_args(type_) for arm in _arms(choice)]
    return [type_]


def _step(type_: Any, part: str | int) -> object:
    if dataclasses.is_dataclass(type_):
        return typing.get_type_hints(type_, include_extras=True).get(str(part))
    args = typing.get_args(type_)
    if typing.get_origin(type_) is tuple and isinstance(part, int) and Ellipsis not in args:
        return args[part] if part < len(args) else None
    return (args[0] if isinstance(part, int) else args[-1]) if args else None
