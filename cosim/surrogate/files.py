"""Surrogates and calibrations on disk, after the HDF5 contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cosim import hdf5, resources
from cosim.circuit.column_adc import ColumnAdc
from cosim.errors import InputError
from cosim.surrogate.calibration import Calibration, Group, Levels
from cosim.surrogate.content import content_of, data, plain, surrogate_of, wrong
from cosim.surrogate.model import Sensing, Surrogate

SURROGATE = ("cosim-surrogate", (1, 2))
"""1.1 added `*_offset_skew`, which is 0 in a file of version 1.0; 1.2 models in both counts, common modes, families."""
CALIBRATION = ("cosim-calibration", (1, 2))
"""1.1 added the attributes `adc_stated`, and `direction`, which is -1 where references fall with the code; 1.2 groups
of a layer, a number of active rows, a bit of the weights and one of the activations."""


def save_surrogate(surrogate: Surrogate, path: Path) -> None:
    """Write a surrogate; the file is there completely or not at all."""
    hdf5.write(path, content_of(surrogate), filetype=SURROGATE[0], version=SURROGATE[1])


def load_surrogate(name_or_path: str | Path) -> Surrogate:
    """A surrogate file, or one of `models/surrogates/` by name.

    Raises:
        InputError: Not there, damaged, of another type or version, or values that no surrogate can have.
        UnsafeError: The file reaches outside itself.
    """
    path = surrogate_path(name_or_path)
    content = hdf5.read(path, filetype=SURROGATE[0], major=SURROGATE[1][0])
    if "family" in content.attributes:
        hint = "name one: --corner, --vdd, --temp; load_family in Python"
        raise InputError("a family of several operating points", place=str(path), hint=hint)
    try:
        surrogate = surrogate_of(_upgraded(content, hdf5.peek(path)[1]))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"an incomplete surrogate: {error}", place=str(path)) from error
    said = wrong(surrogate)
    if said:
        raise InputError(said, place=str(path))
    return surrogate


def surrogate_path(name_or_path: str | Path) -> Path:
    """The file of a surrogate: itself, or one of `models/surrogates/` by name.

    Raises:
        InputError: There is none of this name.
    """
    path = Path(name_or_path)
    return path if path.suffix == ".h5" else resources.find("models", "surrogates", f"{name_or_path}.h5")


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration; groups with fewer codes or counts than the largest are filled up with NaN and -1."""
    levels = list(calibration.levels.values())
    attributes = dict(calibration.provenance) | {
        "sensing": calibration.sensing,
        "bits": calibration.bits,
        "groups": json.dumps([list(group) for group in calibration.levels]),
    }
    # Where the voltage falls with the partial sum, the references do so too.
    if any((np.diff(each.reference_v) < 0).any() for each in levels):
        attributes["direction"] = -1
    datasets = {
        "threshold_count": _padded(
            [each.threshold_count for each in levels], "1", "count between two codes", "reference"
        ),
        "reference_v": _padded([each.reference_v for each in levels], "V", "reference voltage", "reference"),
        "centroid_mac": _padded(
            [each.centroid_mac for each in levels], "1", "partial sum that a code stands for", "code"
        ),
        "histogram": _padded([each.histogram for each in levels], "1", "training partial sums by n_minus", "count"),
    }
    if calibration.adc is not None:
        attributes["adc_stated"] = json.dumps(asdict(calibration.adc))
    hdf5.write(path, hdf5.Content(attributes, datasets), filetype=CALIBRATION[0], version=CALIBRATION[1])


def load_calibration(path: Path) -> Calibration:
    """A calibration file.

    Raises:
        InputError: Not there, damaged, or of another type or version.
    """
    content = hdf5.read(path, filetype=CALIBRATION[0], major=CALIBRATION[1][0])
    try:
        attributes = dict(content.attributes)
        groups = [_group(*each) for each in json.loads(str(attributes.pop("groups")))]
        tables = {
            name: content.datasets[name].values
            for name in ("threshold_count", "reference_v", "centroid_mac", "histogram")
        }
        levels = {group: _levels({name: table[i] for name, table in tables.items()}) for i, group in enumerate(groups)}
        sensing, bits = cast(Sensing, attributes.pop("sensing")), int(cast(int, attributes.pop("bits")))
        adc, direction = _adc(attributes.pop("adc_stated", None)), int(cast(int, attributes.pop("direction", 1)))
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise InputError(f"an incomplete calibration: {error}", place=str(path)) from error
    said = _wrong_levels(levels, str(sensing), bits, direction)
    if said:
        raise InputError(said, place=str(path))
    return Calibration(sensing, bits, levels, plain(attributes), adc)


def _upgraded(content: hdf5.Content, version: tuple[int, int]) -> hdf5.Content:
    """What a file of an older minor version leaves out."""
    if version >= (1, 1):
        return content
    datasets = dict(content.datasets)
    for name in [each for each in datasets if each.endswith("_level_v")]:
        none = data(np.zeros_like(datasets[name].values), "1", "not in this version", name)
        datasets.setdefault(name.replace("_level_v", "_offset_skew"), none)
    return hdf5.Content(content.attributes, datasets)


def _wrong_levels(levels: Mapping[Group, Levels], sensing: str, bits: int, direction: int) -> str:
    """What is wrong with the values, or nothing."""
    if sensing not in ("single_ended", "differential"):
        return f"sensing is {sensing!r}, expected single_ended or differential"
    for group, each in levels.items():
        layer, n_active = group[:2]
        codes = each.centroid_mac.size
        if not each.reference_v.size == each.threshold_count.size == codes - 1 < 2**bits:
            return f"{codes} codes of {layer} do not fit {each.reference_v.size} references and {bits} bits"
        rise = np.diff(each.centroid_mac)
        # Levels that all numbers of active rows share are cut at -n_active and n_active, where codes then coincide.
        cut = np.abs(each.centroid_mac[1:]) == n_active
        if (direction * np.diff(each.reference_v) < 0).any() or ((rise < 0) | ((rise == 0) & ~cut)).any():
            return f"the references or the codes of {layer} do not rise"
        if each.histogram.size != n_active + 1:
            return f"the histogram of {layer} has {each.histogram.size} counts, expected {n_active + 1}"
    return ""


def _group(layer: str, n_active: int, *pair: int) -> Group:
    """A group of a file: of all pairs of bits, or of one."""
    if not pair:
        return layer, int(n_active)
    weight_bit, activation_bit = pair
    return layer, int(n_active), int(weight_bit), int(activation_bit)


def _adc(text: object) -> ColumnAdc | None:
    """The stated converter of a calibration, checked as its file is."""
    if text is None:
        return None
    try:
        return TypeAdapter(ColumnAdc).validate_json(str(text))
    except ValidationError as error:
        raise ValueError(f"adc_stated: {error.errors()[0]['msg']}") from error


def _levels(row: Mapping[str, np.ndarray]) -> Levels:
    counts = row["histogram"]
    return Levels(
        threshold_count=row["threshold_count"][np.isfinite(row["threshold_count"])],
        reference_v=row["reference_v"][np.isfinite(row["reference_v"])],
        centroid_mac=row["centroid_mac"][np.isfinite(row["centroid_mac"])],
        histogram=counts[counts >= 0].astype(np.int64),
    )


def _padded(rows: list[np.ndarray], units: str, long_name: str, axis: str) -> hdf5.Dataset:
    whole = rows[0].dtype.kind in "iu"
    table = np.full(
        (len(rows), max(row.size for row in rows)), -1 if whole else np.nan, np.int64 if whole else np.float64
    )
    for index, row in enumerate(rows):
        table[index, : row.size] = row
    return hdf5.Dataset(table, units, long_name, ("group", axis))
