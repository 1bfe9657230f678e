"""Fast columns as datasets of the HDF5 contract, alone or in another file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from cosim import hdf5
from cosim.errors import InputError
from cosim.fast.bank import STATES
from cosim.fast.charge_share import PRODUCTS, ChargeShareColumn, Sharing
from cosim.fast.column import FastColumn
from cosim.fast.discharge import DischargeColumn, Waveform
from cosim.fast.electrical import Electrical
from cosim.fast.static import Holder, StaticColumn
from cosim.fast.surface import Surface

FAST_COLUMN = ("cosim-fast-column", (2, 0))

SENSING = "fast_sensing"
"""The attribute that names the style; a 1.0 file has none and holds a discharging column."""

_Arrays = Mapping[str, tuple[str, str, tuple[str, ...]]]

_SURFACE: _Arrays = {
    "scale_v": ("V", "threshold shift that is 1 in the polynomials", ("device",)),
    "parent": ("1", "feature that each feature multiplies", ("state", "line", "feature")),
    "device": ("1", "device whose shift each feature multiplies by", ("state", "line", "feature")),
    "features": ("1", "features that count", ("state", "line")),
    "weight": ("1", "components by feature", ("state", "line", "feature", "component")),
    "basis_a": ("A", "currents of the components", ("component", "level", "voltage")),
    "level": ("1", "word-line level in units of the peak", ("level",)),
    "voltage_v": ("V", "bit-line voltage", ("voltage",)),
    "order": ("1", "weighted degree of the polynomial", ("state", "line")),
    "error": ("1", "cross-validated rms error of a cell's current, relative", ("state", "line")),
}
_HOLDER: _Arrays = {"current_a": ("A", "current of what holds a line into it", ("line", "voltage"))}
_SHARING: _Arrays = {
    "cell_f": ("F", "nominal capacitance of each device, 0 of a transistor", ("device",)),
    "step_v": ("V", "what a row of each product moves its capacitor by", ("product",)),
    "charge_c": ("C", "charge that a row of each product adds", ("product",)),
    "bend": ("1", "factors of the line's step to the powers from 2, in 1/V^(power - 1)", ("power",)),
    "effect": ("1", "effect of a shift's power on its row's capacitor", ("order", "product", "device")),
    "impossible": ("1", "product and weight that the cell has no input for", ("impossible", "pair")),
}

_Part = tuple[str, type[Any], _Arrays]
"""Prefix of a part's attributes (datasets have `fast_`), its class, and which of its fields are datasets."""

_PARTS: dict[str, tuple[_Part, ...]] = {
    "discharge": (("fast_", Surface, _SURFACE), ("waveform_", Waveform, {}), ("electrical_", Electrical, {})),
    "static": (("fast_", Surface, _SURFACE), ("holder_", Holder, _HOLDER)),
    "charge-share": (("sharing_", Sharing, _SHARING),),
}


def to_content(fast: FastColumn) -> hdf5.Content:
    """All of a fast column: arrays as datasets; numbers, style and origin as attributes.

    Raises:
        InputError: It is no column of ours.
    """
    style, parts = _taken_apart(fast)
    attributes: dict[str, hdf5.Attribute] = {**fast.about, SENSING: style}
    datasets: dict[str, hdf5.Dataset] = {}
    for part, (prefix, kind, arrays) in zip(parts, _PARTS[style], strict=True):
        for each in fields(kind):
            value = getattr(part, each.name)
            if each.name in arrays:
                units, text, axes = arrays[each.name]
                named = tuple(f"fast_axis_{axis}" for axis in axes)
                datasets[f"fast_{each.name}"] = hdf5.Dataset(_array(value, len(axes)), units, text, named)
            else:
                attributes[prefix + each.name] = list(value) if isinstance(value, tuple) else value
    return hdf5.Content(attributes, datasets)


def from_content(content: hdf5.Content) -> FastColumn:
    """A fast column out of what to_content gave.

    Raises:
        InputError: Something is missing or no number, or the sensing style is none of ours.
    """
    style = str(content.attributes.get(SENSING, "discharge"))
    if style not in _PARTS:
        raise InputError(f"a fast column of sensing {style!r}", hint=f"known: {', '.join(_PARTS)}")
    try:
        parts = [_part(content, *part) for part in _PARTS[style]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"an incomplete fast column: {error}") from error
    prefixes = tuple(prefix for prefix, _, _ in _PARTS[style])
    known = hdf5.RESERVED | {SENSING} | {name for name in content.attributes if name.startswith(prefixes)}
    about = {k: v for k, v in content.attributes.items() if k not in known and isinstance(v, str | int | float)}
    return _put_together(style, parts, about)


def _check_surface(surface: Surface) -> None:
    """Refuse indices that a compiled loop would follow out of its arrays."""
    states, lines, longest, parts = surface.weight.shape
    shape, devices = (states, lines, longest), surface.scale_v.size
    whole = (surface.parent, surface.device, surface.features)
    if (
        (states, lines) != (len(STATES), 2)
        or longest < 1
        or surface.parent.shape != shape
        or surface.device.shape != shape
        or surface.features.shape != shape[:2]
        or surface.basis_a.shape != (parts, surface.level.size, surface.voltage_v.size)
        or any(values.dtype.kind != "i" for values in whole)
        or surface.features.min() < 0
        or surface.features.max() > longest
        or surface.device.min() < 0
        or surface.device.max() >= devices
        or (surface.parent < 0).any()
        or (surface.parent[..., 1:] >= np.arange(1, longest)).any()
        or (np.diff(surface.voltage_v) <= 0).any()
        or (surface.scale_v <= 0).any()
    ):
        raise ValueError("a response surface whose parts do not fit each other")


def _check_sharing(sharing: Sharing) -> None:
    products, devices = (len(PRODUCTS),), sharing.cell_f.shape
    if (
        sharing.charge_c.shape != products
        or sharing.step_v.shape != products
        or sharing.bend.ndim != 1
        or sharing.effect.shape[1:] != products + devices
    ):
        raise ValueError("a charge-sharing line whose parts do not fit each other")


def save_fast_column(fast: FastColumn, path: Path) -> None:
    """Write a fast column to a file of its own."""
    hdf5.write(path, to_content(fast), filetype=FAST_COLUMN[0], version=FAST_COLUMN[1])


def load_fast_column(path: Path) -> FastColumn:
    """A fast column from its file.

    Raises:
        InputError: Not there, damaged, incomplete, or of another type or version.
    """
    return from_content(hdf5.read(path, filetype=FAST_COLUMN[0], major=FAST_COLUMN[1][0]))


def _taken_apart(fast: FastColumn) -> tuple[str, tuple[Any, ...]]:
    match fast:
        case DischargeColumn():
            return "discharge", (fast.surface, fast.waveform, fast.electrical)
        case StaticColumn():
            return "static", (fast.surface, fast.holder)
        case ChargeShareColumn():
            return "charge-share", (fast.sharing,)
        case _:
            raise InputError(f"expected a fast column that this version builds, got {type(fast).__name__}")


def _put_together(style: str, parts: list[Any], about: dict[str, str | int | float]) -> FastColumn:
    columns: dict[str, Callable[..., FastColumn]] = {
        "discharge": DischargeColumn,
        "static": StaticColumn,
        "charge-share": ChargeShareColumn,
    }
    return columns[style](*parts, about)


def _part(content: hdf5.Content, prefix: str, kind: type[Any], arrays: _Arrays) -> Any:
    """One part; a number that an older file does not have keeps its default."""
    given: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in arrays:
            values = content.datasets[f"fast_{each.name}"].values
            if not np.isfinite(values).all():
                raise InputError("a fast column with a NaN")
            given[each.name] = values
        elif prefix + each.name in content.attributes:
            value = content.attributes[prefix + each.name]
            given[each.name] = tuple(value) if isinstance(value, list) else value
    if kind is Surface:
        _check_surface(kind(**given))
    if kind is Sharing:
        given["impossible"] = tuple((int(a), int(b)) for a, b in given["impossible"])
        _check_sharing(kind(**given))
    return kind(**given)


def _array(value: Any, axes: int) -> np.ndarray:
    """A field as an array; an empty one keeps its number of axes."""
    found = np.asarray(value)
    return found if found.size else np.zeros((0, 2) if axes == 2 else (0,), np.int64)
