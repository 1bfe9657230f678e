"""Results as plain-text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosim.cli.console import table

if TYPE_CHECKING:
    from cosim.surrogate.model import Surrogate


def fit_lines(surrogate: Surrogate) -> list[str]:
    """The held-out figures as a table, with the comparators' sigmas."""
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
    for key, label in _VIEWS.items():
        if f"{key}_reads" not in figures:
            continue
        at = {name: figures[f"{key}_{name}"] for name in _FIGURES}
        rows.append([
            label,
            f"{at['reads']:.0f}",
            f"{at['mean_rms_mv']:.2f} ({at['mean_expected_mv']:.2f})",
            f"{at['mean_rms_counts']:.2f}",
            f"{at['sigma_rms_mv']:.2f} ({at['sigma_expected_mv']:.2f})",
            f"{at['sigma_rms_counts']:.2f}",
            f"{at['ks_p']:.3f}",
        ])  # fmt: skip
    lines = table(rows, header)
    for sensing, model in surrogate.comparators.items():
        sigmas = ", ".join(
            f"{1e3 * s:.1f} at {v:g} V" for v, s in zip(model.level_v, model.offset_sigma_v, strict=True)
        )
        lines.append(f"{model.amplifier} ({sensing}) offset sigma in mV, {model.samples} comparators a level: {sigmas}")
    return lines


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
