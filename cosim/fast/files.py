"""Fast columns as datasets of the HDF5 contract, alone or in another file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from cosim import hdf5
from cosim.errors import InputError
from cosim.fast.column import FastColumn, Waveform
from cosim.fast.electrical import Electrical
from cosim.fast.surface import Surface

FAST_COLUMN = ("cosim-fast-column", (1, 0))

_SURFACE = {
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
_WAVEFORM, _ELECTRICAL = "waveform_", "electrical_"


def to_content(fast: FastColumn) -> hdf5.Content:
    """All of a fast column: datasets of the surface; waveform, capacitances and origin as attributes."""
    datasets = {
        f"fast_{name}": hdf5.Dataset(
            getattr(fast.surface, name), units, text, tuple(f"fast_axis_{axis}" for axis in axes)
        )
        for name, (units, text, axes) in _SURFACE.items()
    }
    attributes: dict[str, hdf5.Attribute] = dict(fast.about)
    for prefix, part in ((_WAVEFORM, fast.waveform), (_ELECTRICAL, fast.electrical)):
        for each in fields(part):
            value = getattr(part, each.name)
            attributes[prefix + each.name] = list(value) if isinstance(value, tuple) else value
    return hdf5.Content(attributes, datasets)


def from_content(content: hdf5.Content) -> FastColumn:
    """A fast column out of what to_content gave.

    Raises:
        InputError: Something is missing or no number.
    """
    try:
        surface = Surface(**{name: content.datasets[f"fast_{name}"].values for name in _SURFACE})
        wave, electrical = (
            {each.name: content.attributes[prefix + each.name] for each in fields(part)}
            for prefix, part in ((_WAVEFORM, Waveform), (_ELECTRICAL, Electrical))
        )
        wave["start_v"] = tuple(wave["start_v"])  # type: ignore[arg-type]
        parts = Waveform(**wave), Electrical(**electrical)  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise InputError(f"an incomplete fast column: {error}") from error
    if not all(np.isfinite(getattr(surface, name)).all() for name in _SURFACE):
        raise InputError("a fast column with a NaN")
    known = hdf5.RESERVED | {name for name in content.attributes if name.startswith((_WAVEFORM, _ELECTRICAL))}
    about = {k: v for k, v in content.attributes.items() if k not in known and isinstance(v, str | int | float)}
    return FastColumn(surface, *parts, about)


def save_fast_column(fast: FastColumn, path: Path) -> None:
    """Write a fast column to a file of its own."""
    hdf5.write(path, to_content(fast), filetype=FAST_COLUMN[0], version=FAST_COLUMN[1])


def load_fast_column(path: Path) -> FastColumn:
    """A fast column from its file.

    Raises:
        InputError: Not there, damaged, incomplete, or of another type or version.
    """
    return from_content(hdf5.read(path, filetype=FAST_COLUMN[0], major=FAST_COLUMN[1][0]))
