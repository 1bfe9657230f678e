"""Results as plain-text tables."""

from __future__ import annotations

from math import isnan, nan
from typing import TYPE_CHECKING

from cosim.cli.console import table

if TYPE_CHECKING:
    from cosim.surrogate.model import Surrogate


def fit_lines(surrogate: Surrogate) -> list[str]:
    """The held-out figures of lines and comparators as a table, masked points, and the comparators' sigmas."""
    figures = surrogate.validation
    header = [
        "held-out samples",
        "reads",
        "mean: mV rms (by chance)",
        "counts",
        "sigma: mV rms (by chance)",
        "counts",
        "KS p",
    ]
    rows: list[list[str]] = []
    views = _VIEWS | {
        f"{sensing}_offset": f"offset, {each.amplifier}" for sensing, each in surrogate.comparators.items()
    }
    for key, label in views.items():
        if f"{key}_reads" not in figures:
            continue
        # An offset has no slope, and thus no error in counts.
        at = {name: figures.get(f"{key}_{name}", nan) for name in _FIGURES}
        rows.append([
            label,
            f"{at['reads']:.0f}",
            f"{at['mean_rms_mv']:.2f} ({at['mean_expected_mv']:.2f})",
            _counts(at["mean_rms_counts"]),
            f"{at['sigma_rms_mv']:.2f} ({at['sigma_expected_mv']:.2f})",
            _counts(at["sigma_rms_counts"]),
            f"{at['ks_p']:.3f}",
        ])  # fmt: skip
    lines = table(rows, header)
    if figures.get("masked_points"):
        lines.append(f"{figures['masked_points']:.0f} points masked: a cell flipped in one of their samples")
    for sensing, model in surrogate.comparators.items():
        sigmas = ", ".join(
            f"{1e3 * s:.1f} at {v:g} V" for v, s in zip(model.level_v, model.offset_sigma_v, strict=True)
        )
        lines.append(f"{model.amplifier} ({sensing}) offset sigma in mV, {model.samples} comparators a level: {sigmas}")
    return lines


def _counts(value: float) -> str:
    return "-" if isnan(value) else f"{value:.2f}"


_VIEWS = {
    "bl": "BL",
    "blb": "BLB",
    "difference": "BL - BLB",
    "rows_off_bl": "BL, rows off",
    "rows_off_blb": "BLB, rows off",
    "rows_off_difference": "BL - BLB, rows off",
}
_FIGURES = (
    "reads", "mean_rms_mv", "mean_expected_mv", "mean_rms_counts",
    "sigma_rms_mv", "sigma_expected_mv", "sigma_rms_counts", "ks_p",
)  # fmt: skip
