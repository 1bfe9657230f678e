"""A comparator's offset against its reference level, and against its inputs' common mode where it was measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from cosim.errors import InputError
from cosim.surrogate.moments import Moments


def _not_known() -> Float[np.ndarray, " common_mode"]:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class ComparatorModel:
    """Input-referred offset against the reference level, and against the common mode if two or more were measured.

    The moments are (level,) with one common mode, else (level, common_mode).

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
        _check_range(level_v, self.level_v, f"a reference of {_span(level_v)} V, but {self.amplifier}", "level_v")
        level_v = np.clip(level_v, self.level_v[0], self.level_v[-1])
        fields = (self.offset_mean_v, np.log(self.offset_sigma_v), self.offset_skew)
        at_level = [PchipInterpolator(self.level_v, values)(level_v) for values in fields]
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
        names = ("offset_mean_v", "offset_sigma_v", "offset_skew", "sigma_error_v")
        return [
            (
                float(mode_v),
                replace(
                    self,
                    common_mode_v=self.common_mode_v[[i]],
                    **{name: getattr(self, name)[:, i] for name in names},
                ),
            )
            for i, mode_v in enumerate(self.common_mode_v)
        ]


def _check_range(asked: np.ndarray, measured: np.ndarray, came: str, key: str) -> None:
    low, high = measured[0], measured[-1]
    if asked.size and (asked.min() < low - 1e-9 or asked.max() > high + 1e-9):
        what = "levels" if key == "level_v" else "common modes"
        raise InputError(
            f"{came} was measured from {low:.3f} to {high:.3f} V", hint=f"add {what} to the recipe's comparator"
        )


def _span(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}" if values.size else "none"
