"""A surrogate as datasets and attributes of a file, and back; what no surrogate can be is named."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from cosim import hdf5
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate
from cosim.surrogate.polynomial import Polynomial
from cosim.surrogate.two_count import TwoCountModel

_VALIDATION = "validation_"
LINE = {
    "mean_v": ("V", "mean of a bit line with this many rows pulling it down"),
    "sigma_v": ("V", "standard deviation of the bit line over columns"),
    "skew": ("1", "skewness of the bit line over columns"),
    "mean_error_v": ("V", "bootstrap standard error of mean_v"),
    "sigma_error_v": ("V", "bootstrap standard error of sigma_v"),
    "skew_error": ("1", "bootstrap standard error of skew"),
}
COMPARATOR = {
    "offset_mean_v": ("V", "mean input-referred offset"),
    "offset_sigma_v": ("V", "standard deviation of the offset over comparators"),
    "offset_skew": ("1", "skewness of the offset over comparators"),
    "sigma_error_v": ("V", "standard error of offset_sigma_v"),
}
_POLYNOMIALS = {"mean": "V", "variance": "V^2", "skew": "1"}


def content_of(surrogate: Surrogate) -> hdf5.Content:
    """What a file of one operating point holds.

    The line of a model in both counts is under `all_on_`, so that a reader of files before 1.2, which knows nothing of
    the other count, finds no line at all and not a wrong one.
    """
    line = surrogate.line
    prefix = "line" if surrogate.two_count is None else "all_on"
    datasets = {"count": data(np.arange(line.rows + 1), "1", "rows that pull the line down", "count")}
    for name, (units, long_name) in LINE.items():
        datasets[f"{prefix}_{name}"] = data(getattr(line, name), units, long_name, "count")
    datasets |= _difference(surrogate)
    for sensing, model in surrogate.comparators.items():
        datasets |= comparator_data(sensing, model)
    attributes = dict(surrogate.provenance) | {f"{_VALIDATION}{k}": float(v) for k, v in surrogate.validation.items()}
    attributes["comparators"] = json.dumps({s: [m.amplifier, m.samples] for s, m in surrogate.comparators.items()})
    if surrogate.two_count is not None:
        datasets |= _polynomials(surrogate.two_count)
        attributes["two_count"] = json.dumps(about_two_count(surrogate.two_count))
    return hdf5.Content(attributes, datasets)


def comparator_data(sensing: Sensing, model: ComparatorModel) -> dict[str, hdf5.Dataset]:
    """A comparator's datasets."""
    level, mode = f"{sensing}_level_v", f"{sensing}_common_mode_v"
    datasets = {level: data(model.level_v, "V", f"reference level of the {sensing} comparator", level)}
    if model.common_mode_v.size:
        datasets[mode] = data(model.common_mode_v, "V", f"common mode of the {sensing} comparator's inputs", mode)
    axes = (level, mode) if model.gridded else (level,)
    for name, (units, long_name) in COMPARATOR.items():
        datasets[f"{sensing}_{name}"] = data(getattr(model, name), units, long_name, *axes)
    return datasets


def about_two_count(model: TwoCountModel) -> dict[str, int]:
    """The model's numbers beside its polynomials."""
    return {"fewest_active": model.fewest_active, "direction": model.direction, "lines": model.lines}


def surrogate_of(content: hdf5.Content) -> Surrogate:
    """The surrogate of a file's content; `wrong` says whether its values can be.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, RecursionError: Something is missing or no number.
    """
    values = {name: each.values for name, each in content.datasets.items()}
    about = content.attributes.get("two_count")
    prefix = "line" if about is None else "all_on"
    line = LineModel(**{name: values[f"{prefix}_{name}"] for name in LINE})
    two_count = None if about is None else _two_count(values, line.rows, json.loads(str(about)))
    models: dict[Sensing, ComparatorModel] = {}
    for sensing, (amplifier, samples) in json.loads(str(content.attributes["comparators"])).items():
        models[sensing] = comparator_of(values, sensing, str(amplifier), int(samples))
    attributes = plain(content.attributes)
    validation = {k.removeprefix(_VALIDATION): float(v) for k, v in attributes.items() if k.startswith(_VALIDATION)}
    taken = {"comparators", "two_count"}
    provenance = {k: v for k, v in attributes.items() if not k.startswith(_VALIDATION) and k not in taken}
    return Surrogate(line, models, validation, provenance, two_count)


def comparator_of(values: Mapping[str, np.ndarray], sensing: Sensing, amplifier: str, samples: int) -> ComparatorModel:
    """A comparator from its datasets."""
    fields = {name: values[f"{sensing}_{name}"] for name in COMPARATOR}
    modes = values.get(f"{sensing}_common_mode_v", np.zeros(0))
    return ComparatorModel(amplifier, values[f"{sensing}_level_v"], **fields, samples=samples, common_mode_v=modes)


def wrong(surrogate: Surrogate) -> str:
    """What is wrong with the values, or nothing."""
    line, name = surrogate.line, "line" if surrogate.two_count is None else "all_on"
    for field in LINE:
        values = getattr(line, field)
        if values.shape != line.mean_v.shape or values.ndim != 1 or not np.isfinite(values).all():
            return f"{name}_{field} has a NaN or the wrong shape {values.shape}, expected ({line.mean_v.size},)"
    if line.rows < 1:
        return f"{name}_mean_v has one count, expected at least two"
    if surrogate.direction == 1 and (np.diff(line.mean_v) > 1e-9).any():
        return f"{name}_mean_v rises, expected it to fall with the count"
    if surrogate.direction == -1 and (np.diff(line.mean_v) < -1e-9).any():
        return f"{name}_mean_v falls, expected it to rise with the count"
    if (line.sigma_v < 0).any():
        return f"{name}_sigma_v is negative"
    if surrogate.two_count is not None:
        said = _wrong_two_count(surrogate.two_count)
        if said:
            return said
    return next((said for s, m in surrogate.comparators.items() if (said := _wrong_comparator(s, m))), "")


def data(values: np.ndarray, units: str, long_name: str, *axes: str) -> hdf5.Dataset:
    """A dataset with its axes."""
    return hdf5.Dataset(values, units, long_name, axes)


def plain(attributes: Mapping[str, object]) -> dict[str, str | int | float]:
    """Attributes of ours as plain Python values, without those that the writer adds itself."""
    return {k: v for k, v in attributes.items() if k not in hdf5.RESERVED and isinstance(v, str | int | float)}


def _difference(surrogate: Surrogate) -> dict[str, hdf5.Dataset]:
    """What differential sensing sees with all rows on, for readers that do not compose it themselves."""
    if surrogate.lines == 1:
        return {}
    n_minus = np.arange(surrogate.rows + 1.0)
    both = surrogate.moments("differential", n_minus, surrogate.rows - n_minus)
    datasets: dict[str, hdf5.Dataset] = {}
    for name in ("mean_v", "sigma_v", "skew"):
        text = f"{name.split('_')[0]} of BL - BLB with this many rows pulling BL and all others BLB"
        datasets[f"difference_{name}"] = data(getattr(both, name), "1" if name == "skew" else "V", text, "count")
    return datasets


def _polynomials(model: TwoCountModel) -> dict[str, hdf5.Dataset]:
    datasets: dict[str, hdf5.Dataset] = {}
    for moment, units in _POLYNOMIALS.items():
        polynomial: Polynomial = getattr(model, moment)
        axis = f"two_count_{moment}_term"
        powers = "powers of 2 own / rows - 1 and of 2 other / rows - 1"
        datasets[f"two_count_{moment}_powers"] = data(polynomial.powers, "1", powers, axis, "variable")
        text = f"coefficient of each term of the line's {moment}"
        datasets[f"two_count_{moment}"] = data(polynomial.coefficient, units, text, axis)
    return datasets


def _two_count(values: Mapping[str, np.ndarray], rows: int, about: Mapping[str, int]) -> TwoCountModel:
    fewest, direction, lines = (int(about[name]) for name in ("fewest_active", "direction", "lines"))
    moments: dict[str, Polynomial] = {}
    for moment in _POLYNOMIALS:
        powers, coefficient = values[f"two_count_{moment}_powers"], values[f"two_count_{moment}"]
        if powers.shape != (coefficient.size, 2) or powers.dtype.kind not in "iu" or not np.isfinite(coefficient).all():
            raise ValueError(f"two_count_{moment} has a NaN or does not fit its powers")
        if (powers < 0).any() or (powers > 64).any():
            raise ValueError(f"two_count_{moment}_powers are beyond 0 to 64")
        moments[moment] = Polynomial(powers.astype(np.int64), coefficient)
    return TwoCountModel(rows, fewest, direction, lines, **moments)


def _wrong_two_count(model: TwoCountModel) -> str:
    if model.direction not in (-1, 1) or model.lines not in (1, 2) or not 0 <= model.fewest_active <= model.rows:
        return f"two_count is {about_two_count(model)}, which no column of {model.rows} rows has"
    return ""


def _wrong_comparator(sensing: str, model: ComparatorModel) -> str:
    if model.level_v.ndim != 1 or model.level_v.size < 2 or not np.isfinite(model.level_v).all():
        return f"{sensing}_level_v has a NaN or fewer than two levels"
    shape = (model.level_v.size, model.common_mode_v.size) if model.common_mode_v.size > 1 else (model.level_v.size,)
    if model.offset_mean_v.shape != shape or model.good.sum() < 2:
        return f"{sensing}_offset_mean_v has the wrong shape or fewer than two levels that are not masked"
    for name in COMPARATOR:
        values = getattr(model, name)
        # A masked level has no number in any of them.
        if values.shape != shape or not np.isfinite(values[model.good]).all() or np.isfinite(values[~model.good]).any():
            return f"{sensing}_{name} has a NaN or the wrong shape"
    if (np.diff(model.level_v) <= 0).any() or (model.offset_sigma_v[model.good] <= 0).any():
        return f"the levels of {sensing} do not rise, or a sigma is not positive"
    if not np.isfinite(model.common_mode_v).all() or (np.diff(model.common_mode_v) <= 0).any():
        return f"the common modes of {sensing} do not rise"
    return ""
