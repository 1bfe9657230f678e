"""Surrogates and calibrations on disk, after the HDF5 contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from cosim import hdf5, resources
from cosim.errors import InputError
from cosim.surrogate.calibration import Calibration, Group, Levels
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate

SURROGATE = ("cosim-surrogate", (1, 1))
"""1.1 added `*_offset_skew`; in a file of version 1.0 it is 0."""
CALIBRATION = ("cosim-calibration", (1, 0))
_VALIDATION = "validation_"

_LINE = {
    "mean_v": ("V", "mean of a bit line with this many rows pulling it down"),
    "sigma_v": ("V", "standard deviation of the bit line over columns"),
    "skew": ("1", "skewness of the bit line over columns"),
    "mean_error_v": ("V", "bootstrap standard error of mean_v"),
    "sigma_error_v": ("V", "bootstrap standard error of sigma_v"),
    "skew_error": ("1", "bootstrap standard error of skew"),
}
_COMPARATOR = {
    "offset_mean_v": ("V", "mean input-referred offset"),
    "offset_sigma_v": ("V", "standard deviation of the offset over comparators"),
    "offset_skew": ("1", "skewness of the offset over comparators"),
    "sigma_error_v": ("V", "standard error of offset_sigma_v"),
}


def save_surrogate(surrogate: Surrogate, path: Path) -> None:
    """Write a surrogate; the file is there completely or not at all."""
    line = surrogate.line
    datasets = {"count": _data(np.arange(line.rows + 1), "1", "rows that pull the line down", "count")}
    for name, (units, long_name) in _LINE.items():
        datasets[f"line_{name}"] = _data(getattr(line, name), units, long_name, "count")
    # What differential sensing sees with all rows on, for readers that do not compose it themselves.
    n_minus = np.arange(line.rows + 1.0)
    both = surrogate.moments("differential", n_minus, line.rows - n_minus)
    for name in ("mean_v", "sigma_v", "skew"):
        text = f"{name.split('_')[0]} of BL - BLB with this many rows pulling BL and all others BLB"
        datasets[f"difference_{name}"] = _data(getattr(both, name), "1" if name == "skew" else "V", text, "count")
    for sensing, model in surrogate.comparators.items():
        axis = f"{sensing}_level_v"
        datasets[axis] = _data(model.level_v, "V", f"reference level of the {sensing} comparator", axis)
        for name, (units, long_name) in _COMPARATOR.items():
            datasets[f"{sensing}_{name}"] = _data(getattr(model, name), units, long_name, axis)
    attributes = dict(surrogate.provenance) | {f"{_VALIDATION}{k}": float(v) for k, v in surrogate.validation.items()}
    about = {sensing: [model.amplifier, model.samples] for sensing, model in surrogate.comparators.items()}
    attributes["comparators"] = json.dumps(about)
    hdf5.write(path, hdf5.Content(attributes, datasets), filetype=SURROGATE[0], version=SURROGATE[1])


def load_surrogate(name_or_path: str | Path) -> Surrogate:
    """A surrogate file, or one of `models/surrogates/` by name.

    Raises:
        InputError: Not there, damaged, of another type or version, or values that no surrogate can have.
        UnsafeError: The file reaches outside itself.
    """
    path = Path(name_or_path)
    if path.suffix != ".h5":
        path = resources.find("models", "surrogates", f"{name_or_path}.h5")
    content = hdf5.read(path, filetype=SURROGATE[0], major=SURROGATE[1][0])
    try:
        surrogate = _surrogate(content, hdf5.peek(path)[1])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"an incomplete surrogate: {error}", place=str(path)) from error
    wrong = _wrong(surrogate)
    if wrong:
        raise InputError(wrong, place=str(path))
    return surrogate


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration; groups with fewer codes or counts than the largest are filled up with NaN and -1."""
    levels = list(calibration.levels.values())
    attributes = dict(calibration.provenance) | {
        "sensing": calibration.sensing,
        "bits": calibration.bits,
        "groups": json.dumps([list(group) for group in calibration.levels]),
    }
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
    hdf5.write(path, hdf5.Content(attributes, datasets), filetype=CALIBRATION[0], version=CALIBRATION[1])


def load_calibration(path: Path) -> Calibration:
    """A calibration file.

    Raises:
        InputError: Not there, damaged, or of another type or version.
    """
    content = hdf5.read(path, filetype=CALIBRATION[0], major=CALIBRATION[1][0])
    try:
        attributes = dict(content.attributes)
        groups: list[Group] = [(name, int(n)) for name, n in json.loads(str(attributes.pop("groups")))]
        tables = {
            name: content.datasets[name].values
            for name in ("threshold_count", "reference_v", "centroid_mac", "histogram")
        }
        levels = {group: _levels({name: table[i] for name, table in tables.items()}) for i, group in enumerate(groups)}
        sensing, bits = cast(Sensing, attributes.pop("sensing")), int(cast(int, attributes.pop("bits")))
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise InputError(f"an incomplete calibration: {error}", place=str(path)) from error
    wrong = _wrong_levels(levels, str(sensing), bits)
    if wrong:
        raise InputError(wrong, place=str(path))
    return Calibration(sensing, bits, levels, _plain(attributes))


def _surrogate(content: hdf5.Content, version: tuple[int, int]) -> Surrogate:
    values = {name: data.values for name, data in content.datasets.items()}
    line = LineModel(**{name: values[f"line_{name}"] for name in _LINE})
    models: dict[Sensing, ComparatorModel] = {}
    for sensing, (amplifier, samples) in json.loads(str(content.attributes["comparators"])).items():
        if version < (1, 1):
            values.setdefault(f"{sensing}_offset_skew", np.zeros_like(values[f"{sensing}_level_v"]))
        fields = {name: values[f"{sensing}_{name}"] for name in _COMPARATOR}
        models[sensing] = ComparatorModel(str(amplifier), values[f"{sensing}_level_v"], **fields, samples=int(samples))
    attributes = _plain(content.attributes)
    validation = {k.removeprefix(_VALIDATION): float(v) for k, v in attributes.items() if k.startswith(_VALIDATION)}
    provenance = {k: v for k, v in attributes.items() if not k.startswith(_VALIDATION) and k != "comparators"}
    return Surrogate(line, models, validation, provenance)


def _wrong(surrogate: Surrogate) -> str:
    """What is wrong with the values, or nothing."""
    line = surrogate.line
    arrays = {name: getattr(line, name) for name in _LINE}
    for name, values in arrays.items():
        if values.shape != line.mean_v.shape or values.ndim != 1 or not np.isfinite(values).all():
            return f"line_{name} has a NaN or the wrong shape {values.shape}, expected ({line.mean_v.size},)"
    if line.rows < 1:
        return "line_mean_v has one count, expected at least two"
    if (np.diff(line.mean_v) > 0).any():
        return "line_mean_v rises, expected it to fall with the count"
    if (line.sigma_v < 0).any():
        return "line_sigma_v is negative"
    for sensing, model in surrogate.comparators.items():
        if model.level_v.ndim != 1 or model.level_v.size < 2 or not np.isfinite(model.level_v).all():
            return f"{sensing}_level_v has a NaN or fewer than two levels"
        for name in _COMPARATOR:
            values = getattr(model, name)
            if values.shape != model.level_v.shape or not np.isfinite(values).all():
                return f"{sensing}_{name} has a NaN or the wrong shape"
        if (np.diff(model.level_v) <= 0).any() or (model.offset_sigma_v <= 0).any():
            return f"the levels of {sensing} do not rise, or a sigma is not positive"
    return ""


def _wrong_levels(levels: Mapping[Group, Levels], sensing: str, bits: int) -> str:
    """What is wrong with the values, or nothing."""
    if sensing not in ("single_ended", "differential"):
        return f"sensing is {sensing!r}, expected single_ended or differential"
    for (layer, n_active), each in levels.items():
        codes = each.centroid_mac.size
        if not each.reference_v.size == each.threshold_count.size == codes - 1 < 2**bits:
            return f"{codes} codes of {layer} do not fit {each.reference_v.size} references and {bits} bits"
        if (np.diff(each.reference_v) < 0).any() or (np.diff(each.centroid_mac) <= 0).any():
            return f"the references or the codes of {layer} do not rise"
        if each.histogram.size != n_active + 1:
            return f"the histogram of {layer} has {each.histogram.size} counts, expected {n_active + 1}"
    return ""


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


def _data(values: np.ndarray, units: str, long_name: str, axis: str) -> hdf5.Dataset:
    return hdf5.Dataset(values, units, long_name, (axis,))


def _plain(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    """Attributes of ours as plain Python values, without those that the writer adds itself."""
    return {k: v for k, v in attributes.items() if k not in hdf5.RESERVED and isinstance(v, str | int | float)}
