"""Comparator offsets from the gradient of perturbed comparators, checked by the bisected samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from cosim.campaign.sensitivity import gradient_of
from cosim.surrogate.estimates import Group
from cosim.surrogate.model import Sensing

if TYPE_CHECKING:
    from cosim.surrogate.samples import ComparatorSamples

Place = tuple[float, float | None]
"""A level and a common mode in volts; None where the file does not say it, or the level is the common mode."""

Gradients = Mapping[Place, Float[np.ndarray, " device"] | None]
"""Volts of offset a sigma of each device; None where a perturbed comparator failed."""

LEAST_R2 = 0.98
"""Squared correlation of predicted and bisected offsets below which the gradient is not used.

At 0.98 n samples tell a sigma as well as 25 n would without the gradient. An offset that its gradient explains worse
is not linear in the shifts, and then neither its sigma nor its shape follows from them.
"""


def gradients_of(table: Mapping[str, np.ndarray], sensings: Sequence[Sensing]) -> dict[Sensing, Gradients]:
    """The gradients of the comparators that have them, from a file's tables; in the order of its amplifiers."""
    if "sensitivity_amplifier" not in table:
        return {}
    found: dict[Sensing, Gradients] = {}
    for index, sensing in enumerate(sensings):
        mine = table["sensitivity_amplifier"] == index
        level_v = table["sensitivity_level_v"].astype(float)
        known = "sensitivity_common_mode_v" in table and sensing == "differential"
        mode_v = table["sensitivity_common_mode_v"].astype(float) if known else np.full(level_v.size, np.nan)
        places = {place_of(level, mode) for level, mode in zip(level_v[mine], mode_v[mine], strict=True)}
        if places:
            found[sensing] = {
                place: _gradient(table, mine & (level_v == place[0]) & ((mode_v == place[1]) | (place[1] is None)))
                for place in places
            }
    return found


def place_of(level_v: float, common_mode_v: float) -> Place:
    """A comparator's place; a common mode that is not a number is none."""
    return float(level_v), None if np.isnan(common_mode_v) else float(common_mode_v)


def offset_group(offsets: ComparatorSamples, gradients: Gradients | None) -> Group:
    """One level's offsets with their controls.

    With a gradient that predicts them well, that is the prediction; with one that does not, none; without a
    gradient, the shift of each device.
    """
    if gradients is None:
        return Group(offsets.offset_v, offsets.control, offsets.batch)
    unit, size_v = _predicted(offsets, gradients)
    if not size_v or _r2(unit, offsets.offset_v) < LEAST_R2:
        return Group(offsets.offset_v, None, offsets.batch)
    return Group(offsets.offset_v, unit[:, None], offsets.batch, curved=True)


def check_gradients(gradients: Gradients, offsets: ComparatorSamples) -> dict[str, float]:
    """What is predicted against what is bisected, over all levels and common modes; without a gradient r2 is 0.

    `r2` is the smallest squared correlation, `rms_mv` the rms difference in millivolts, each level's mean taken out
    (0 without any gradient), and `used` the share of the levels where the gradient is used.
    """
    r2: list[float] = []
    errors: list[Float[np.ndarray, " read"]] = []
    where = np.stack([offsets.level_v, np.nan_to_num(offsets.common_mode_v, nan=-1.0)], axis=1)
    for place in np.unique(where, axis=0):
        here = offsets.chosen((where == place).all(axis=1))
        unit, size_v = _predicted(here, gradients)
        r2.append(_r2(unit, here.offset_v))
        if size_v:
            error = here.offset_v - size_v * unit
            errors.append(error - error.mean())
    rms_mv = 1e3 * float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) if errors else 0.0
    return {"r2": min(r2), "rms_mv": rms_mv, "used": float(np.mean(np.array(r2) >= LEAST_R2))}


def _gradient(table: Mapping[str, np.ndarray], at: np.ndarray) -> Float[np.ndarray, " device"] | None:
    good = at & (table["sensitivity_status"] == 0)
    try:
        return gradient_of(table["sensitivity_sample"][good], table["sensitivity_offset_v"][good])
    except ValueError:
        return None


def _predicted(offsets: ComparatorSamples, gradients: Gradients) -> tuple[Float[np.ndarray, " read"], float]:
    """Each sample's offset by the gradient, in units of its standard deviation, and that in volts; 0 without one."""
    gradient = gradients.get(place_of(offsets.level_v[0], offsets.common_mode_v[0]))
    size_v = 0.0 if gradient is None else float(np.linalg.norm(gradient))
    if gradient is None or offsets.control is None or not size_v:
        return np.zeros(offsets.offset_v.size), 0.0
    return offsets.control @ (gradient / size_v), size_v


def _r2(predicted: Float[np.ndarray, " read"], offset_v: Float[np.ndarray, " read"]) -> float:
    """Squared correlation; 0 where there is none to speak of."""
    if offset_v.size < 3 or not offset_v.std() or not predicted.std():
        return 0.0
    return float(np.corrcoef(predicted, offset_v)[0, 1] ** 2)
