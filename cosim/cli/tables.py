"""Results as plain-text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

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
        lines += _sensitivity_lines(model.amplifier, sensing, figures)
    return lines


def stopping_lines(stopped: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where each point ended that a standard error was asked for, and what it reached; nothing for none."""
    if not stopped:
        return []
    rows = [
        [
            each["label"],
            str(each["samples"]),
            *(_error(each, name) for name in SIGNALS),
            "yes" if each["reached"] else "no",
        ]
        for each in stopped
    ]
    lines = table(rows, ["standard error of the mean: mV (counts)", "samples", "BL", "BLB", "BL - BLB", "reached"])
    short = sum(not each["reached"] for each in stopped)
    if short:
        lines.append(
            f"{short} of {len(stopped)} points have not reached the standard error with the most samples allowed"
        )
    return lines


def _error(stopped: Mapping[str, Any], signal: str) -> str:
    if signal not in stopped["error_v"]:
        return "-"
    counts = stopped["error_counts"].get(signal)
    return f"{1e3 * stopped['error_v'][signal]:.3f}" + ("" if counts is None else f" ({counts:.3f})")


def _sensitivity_lines(amplifier: str, sensing: str, figures: Mapping[str, float]) -> list[str]:
    if f"{sensing}_sensitivity_r2" not in figures:
        return []
    r2, rms_mv, used = (figures[f"{sensing}_sensitivity_{name}"] for name in ("r2", "rms_mv", "used"))
    line = (
        f"{amplifier} ({sensing}) offsets from sensitivities: {rms_mv:.2f} mV rms from the bisected ones, r2 {r2:.4f}"
    )
    other = "" if used == 1 else f" at the worst level; {1 - used:.0%} of the levels keep the samples' own moments"
    return [line + other]


def _counts(value: float) -> str:
    return "-" if isnan(value) else f"{value:.2f}"


SIGNALS = ("bl", "blb", "difference")

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
