"""Families of surrogates on disk: one file, every dataset of a surrogate with an axis of operating points before it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosim import hdf5
from cosim.errors import InputError
from cosim.surrogate.content import content_of, plain, surrogate_of, wrong
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.files import SURROGATE, load_surrogate, surrogate_path
from cosim.surrogate.model import Surrogate
from cosim.surrogate.operating import OperatingPoint, Request, point_of, records_of

_FAMILY = "family"
_OWN = ("comparators", "two_count")
"""Attributes of a surrogate that are each point's own."""


def save_family(family: SurrogateFamily, path: Path) -> None:
    """Write a family; the file is there completely or not at all.

    Raises:
        InputError: All points are masked, or the file cannot be written.
    """
    contents = [None if each is None else content_of(each) for each in family.surrogates]
    there = [each for each in contents if each is not None]
    if not there:
        raise InputError("every operating point is masked, so there is nothing to keep", hint=family.masked[0])
    names = sorted({name for each in there for name in each.attributes if name.startswith("validation_")})
    datasets = _stacked(contents, there[0]) | _figures(contents, names)
    entries = [
        {"masked": family.masked[i]}
        | dict(family.levels[i] if family.levels else {})
        | {name: getattr(point, name) for name in OperatingPoint.__slots__}
        | ({} if each is None else {name: each.attributes[name] for name in _OWN if name in each.attributes})
        for i, (point, each) in enumerate(zip(family.points, contents, strict=True))
    ]
    about = dict(family.provenance) | {_FAMILY: json.dumps(entries), "interpolation": json.dumps(dict(family.errors))}
    hdf5.write(path, hdf5.Content(about, datasets), filetype=SURROGATE[0], version=SURROGATE[1])


def load_family(name_or_path: str | Path) -> SurrogateFamily:
    """A family's file.

    Raises:
        InputError: Not there, damaged, of one operating point, or values that no surrogate can have.
        UnsafeError: The file reaches outside itself.
    """
    path = surrogate_path(name_or_path)
    content = hdf5.read(path, filetype=SURROGATE[0], major=SURROGATE[1][0])
    if _FAMILY not in content.attributes:
        raise InputError("a surrogate of one operating point, expected a family of several", place=str(path))
    try:
        family = _family(content)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(f"an incomplete family: {error}", place=str(path)) from error
    for point, each in zip(family.points, family.surrogates, strict=True):
        said = "" if each is None else wrong(each)
        if said:
            raise InputError(f"{point}: {said}", place=str(path))
    return family


def is_family(name_or_path: str | Path) -> bool:
    """Whether a surrogate's file is of several operating points.

    Raises:
        InputError, UnsafeError: As `load_family`.
    """
    content = hdf5.read(surrogate_path(name_or_path), filetype=SURROGATE[0], major=SURROGATE[1][0])
    return _FAMILY in content.attributes


def load_at(name_or_path: str | Path, asked: Request) -> Surrogate:
    """The surrogate of a file at an operating point, which a file of one point can only confirm.

    Raises:
        InputError: As `SurrogateFamily.at`; or the file is of one other point, or does not say of which.
        UnsafeError: The file reaches outside itself.
    """
    path = surrogate_path(name_or_path)
    if is_family(path):
        family = load_family(path)
        try:
            return family.at(**{name: getattr(asked, name) for name in Request.__slots__})
        except InputError as error:
            raise InputError(error.message, place=str(path), hint=error.hint) from error
    surrogate = load_surrogate(path)
    if not asked.empty:
        _check_only(surrogate, asked, path)
    return surrogate


def _check_only(surrogate: Surrogate, asked: Request, path: Path) -> None:
    try:
        records = records_of(surrogate.provenance)
        point = point_of(records[0]) if records else None
    except (KeyError, ValueError, TypeError, RecursionError):
        point = None
    if point is None:
        raise InputError("a surrogate of one operating point, which its file does not name", place=str(path))
    differs = asked.differs_from(point)
    if differs is not None:
        came, there = getattr(asked, differs), getattr(point, differs)
        raise InputError(
            f"{differs} = {came}, but this surrogate is of one operating point with {there}",
            place=str(path),
            hint="characterize a [sweep] and fit it",
        )


def _stacked(contents: Sequence[hdf5.Content | None], first: hdf5.Content) -> dict[str, hdf5.Dataset]:
    """Every dataset that differs from point to point with an axis of points; coordinates and powers once."""
    datasets: dict[str, hdf5.Dataset] = {}
    for name, item in first.datasets.items():
        if item.axes == (name,) or name.endswith("_powers"):
            datasets[name] = item
            continue
        none = np.full(item.values.shape, np.nan)
        values = np.stack([none if each is None else each.datasets[name].values for each in contents])
        datasets[name] = hdf5.Dataset(values, item.units, item.long_name, ("point", *item.axes))
    return datasets


def _figures(contents: Sequence[hdf5.Content | None], names: Sequence[str]) -> dict[str, hdf5.Dataset]:
    """The held-out figures, one a point; not a number where a point has none."""
    datasets: dict[str, hdf5.Dataset] = {}
    for name in names:
        values = [np.nan if each is None else float(each.attributes.get(name, np.nan)) for each in contents]  # type: ignore[arg-type]
        text = f"{name.removeprefix('validation_')} of each operating point"
        datasets[name] = hdf5.Dataset(np.array(values), "1", text, ("point",))
    return datasets


def _family(content: hdf5.Content) -> SurrogateFamily:
    attributes = dict(content.attributes)
    entries: list[dict[str, Any]] = json.loads(str(attributes.pop(_FAMILY)))
    errors: dict[str, dict[str, float]] = json.loads(str(attributes.pop("interpolation")))
    if not entries:
        raise ValueError("no operating points")
    kept = {corner: {name: float(value) for name, value in each.items()} for corner, each in errors.items()}
    taken = {*OperatingPoint.__slots__, *_OWN, "masked"}
    return SurrogateFamily(
        points=tuple(point_of(entry) for entry in entries),
        surrogates=tuple(_point(content, i, entry) for i, entry in enumerate(entries)),
        masked=tuple(str(entry["masked"]) for entry in entries),
        errors=kept,
        provenance=plain(attributes),
        levels=tuple({name: value for name, value in entry.items() if name not in taken} for entry in entries),
    )


def _point(content: hdf5.Content, index: int, entry: Mapping[str, Any]) -> Surrogate | None:
    """The surrogate of one point, from its part of every dataset."""
    if entry["masked"]:
        return None
    datasets: dict[str, hdf5.Dataset] = {}
    attributes: dict[str, hdf5.Attribute] = {name: str(entry[name]) for name in _OWN if name in entry}
    for name, item in content.datasets.items():
        if item.axes[:1] != ("point",):
            datasets[name] = item
        elif name.startswith("validation_"):
            if np.isfinite(item.values[index]):
                attributes[name] = float(item.values[index])
        else:
            datasets[name] = hdf5.Dataset(item.values[index], item.units, item.long_name, item.axes[1:])
    return surrogate_of(hdf5.Content(attributes, datasets))
