"""A comparator's offset against its reference level, and against its inputs' common mode where it was measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import PchipInterpolator

from cosim.errors import InputError
from cosim.surrogate.moments import Moments

MOMENTS = ("offset_mean_v", "offset_sigma_v", "offset_skew", "sigma_error_v")


def _not_known() -> Float[np.ndarray, " common_mode"]:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class ComparatorModel:
    """Input-referred offset against the reference level, and against the common mode if two or more were measured.

    The moments are (level,) with one common mode, else (level, common_mode). A level that is masked, as too many of
    its samples failed, has no numbers; it is as if it had not been measured.

    Args:
        level_v: Levels at which offsets were measured, rising.
        offset_skew: 0 where the samples do not tell it from none.
        sigma_error_v: Standard error of each sigma.
        samples: Offsets fitted at each level.
        common_mode_v: Common modes at which offsets were measured, rising; empty where it is not known, and where
            the level itself is the common mode.
    """

    amplifier: str
    level_v: Float[np.ndarray, " level"]
    offset_mean_v: Float[np.ndarray, "level *common_mode"]
    offset_sigma_v: Float[np.ndarray, "level *common_mode"]
    offset_skew: Float[np.ndarray, "level *common_mode"]
    sigma_error_v: Float[np.ndarray, "level *common_mode"]
    samples: int
    common_mode_v: Float[np.ndarray, " mode"] = field(default_factory=_not_known)

    @property
    def gridded(self) -> bool:
        """Whether offsets were measured at several common modes."""
        return self.offset_mean_v.ndim == 2

    @property
    def good(self) -> Bool[np.ndarray, " level"]:
        """The levels that are not masked."""
        known = np.isfinite(self.offset_mean_v)
        return known if known.ndim < 2 else np.asarray(known.all(axis=1))

    def at_levels(self, level_v: Float[np.ndarray, " level"]) -> ComparatorModel:
        """The same model on more levels, masked where it has none."""
        place = np.searchsorted(level_v, self.level_v)
        moments = {name: np.full((level_v.size, *self.offset_mean_v.shape[1:]), np.nan) for name in MOMENTS}
        for name, values in moments.items():
            values[place] = getattr(self, name)
        return replace(self, level_v=level_v, **moments)

    def extended(
        self, level_v: Float[np.ndarray, " level"], common_mode_v: Float[np.ndarray, " mode"]
    ) -> ComparatorModel:
        """The same model on these levels and common modes, at each as at the nearest one that it has."""
        moments: dict[str, np.ndarray] = {}
        for name in MOMENTS:
            values: np.ndarray = getattr(self, name)[_nearest(level_v, self.level_v)]
            if common_mode_v.size > 1:
                values = values.reshape(level_v.size, -1)[:, _nearest(common_mode_v, self.common_mode_v)]
            moments[name] = values
        return replace(self, level_v=level_v, common_mode_v=common_mode_v, **moments)

    def at(
        self, level_v: Float[np.ndarray, " reference"], common_mode_v: Float[np.ndarray, " count"] | None = None
    ) -> Moments:
        """Moments of the offset at references between the measured levels; never beyond them.

        Args:
            common_mode_v: Of the inputs, at each count of a read; needed by a `gridded` model, which answers
                (count, reference), and without a meaning for the others, which answer (reference,).

        Raises:
            InputError: A reference outside the measured levels, or a common mode outside those measured.
        """
        known_v = self.level_v[self.good]
        _check_range(level_v, known_v, f"a reference of {_span(level_v)} V, but {self.amplifier}", "level_v")
        level_v = np.clip(level_v, known_v[0], known_v[-1])
        fields = (self.offset_mean_v, np.log(self.offset_sigma_v), self.offset_skew)
        at_level = [PchipInterpolator(known_v, values[self.good])(level_v) for values in fields]
        if self.gridded:
            if common_mode_v is None:
                raise InputError(f"{self.amplifier} was measured at several common modes", hint="name the common mode")
            came = f"a common mode of {_span(common_mode_v)} V, but {self.amplifier}"
            _check_range(common_mode_v, self.common_mode_v, came, "common_mode_v")
            modes_v = np.clip(common_mode_v, self.common_mode_v[0], self.common_mode_v[-1])
            at_level = [PchipInterpolator(self.common_mode_v, values, axis=1)(modes_v).T for values in at_level]
        # Log, so that sigma stays positive between the levels.
        return Moments(at_level[0], np.exp(at_level[1]), at_level[2])

    def slices(self) -> list[tuple[float | None, ComparatorModel]]:
        """The model at each measured common mode as one against the level alone; itself where there are not several."""
        if not self.gridded:
            return [(None, self)]
        return [
            (
                float(mode_v),
                replace(
                    self,
                    common_mode_v=self.common_mode_v[[i]],
                    **{name: getattr(self, name)[:, i] for name in MOMENTS},
                ),
            )
            for i, mode_v in enumerate(self.common_mode_v)
        ]


def _nearest(wanted: Float[np.ndarray, " place"], known: Float[np.ndarray, " known"]) -> Int[np.ndarray, " place"]:
    return np.abs(wanted[:, None] - known).argmin(axis=1)


def _check_range(asked: np.ndarray, measured: np.ndarray, came: str, key: str) -> None:
    low, high = measured[0], measured[-1]
    if asked.size and (asked.min() < low - 1e-9 or asked.max() > high + 1e-9):
        what = "levels" if key == "level_v" else "common modes"
        raise InputError(
            f"{came} was measured from {low:.3f} to {high:.3f} V", hint=f"add {what} to the recipe's comparator"
        )


def _span(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}" if values.size else "none"
