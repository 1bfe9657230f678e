"""Results as plain-text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from cosim.cli.console import table

if TYPE_CHECKING:
    from cosim.surrogate.family import SurrogateFamily
    from cosim.surrogate.model import Surrogate


def lines_of(found: Surrogate | SurrogateFamily) -> list[str]:
    """A surrogate's held-out figures; of a family one line a point."""
    from cosim.surrogate.family import SurrogateFamily

    return family_lines(found) if isinstance(found, SurrogateFamily) else fit_lines(found)


def figures_of(found: Surrogate | SurrogateFamily) -> dict[str, object]:
    """The same for JSON."""
    from cosim.surrogate.family import SurrogateFamily

    if not isinstance(found, SurrogateFamily):
        return dict(found.validation)
    points = [
        {"point": str(point), "masked": masked} | ({} if each is None else dict(each.validation))
        for point, masked, each in zip(found.points, found.masked, found.surrogates, strict=True)
    ]
    return {"points": points, "interpolation": {corner: dict(each) for corner, each in found.errors.items()}}


def family_lines(family: SurrogateFamily) -> list[str]:
    """The held-out figures of each operating point's widest view, masked points, and the errors between points."""
    header = ["operating point", "level", "reads", "mean: mV rms (by chance)", "counts", "sigma: mV rms", "KS p"]
    rows: list[list[str]] = []
    levels = family.levels or ({},) * len(family.points)
    for point, surrogate, masked, level in zip(family.points, family.surrogates, family.masked, levels, strict=True):
        if surrogate is None:
            rows.append([str(point), str(level.get("level", "-")), f"masked: {masked}", *[""] * 4])
            continue
        view = "difference" if surrogate.lines == 2 else "bl"
        at = {name: surrogate.validation.get(f"{view}_{name}", nan) for name in _FIGURES}
        rows.append([
            str(point), str(level.get("level", "-")), f"{at['reads']:.0f}",
            f"{at['mean_rms_mv']:.2f} ({at['mean_expected_mv']:.2f})", _counts(at["mean_rms_counts"]),
            f"{at['sigma_rms_mv']:.2f}", f"{at['ks_p']:.3f}",
        ])  # fmt: skip
    named = [(str(point), level) for point, level in zip(family.points, family.levels, strict=False)]
    return [*table(rows, header), *_fast_lines(named), *_between_lines(family)]


def _fast_lines(points: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """The worst errors of each operating point's fast column against the full one, on the same draws."""
    header = ["fast column against the full one", "bias, mV", "rms, mV", "bound, mV", "mean, counts", "sigma, %", ""]
    names = ("l2_bias_mv", "l2_rms_mv", "l2_bound_mv", "l2_mean_counts", "l2_sigma_percent")
    rows = [
        [point, *(_number(level.get(name)) for name in names), str(level.get("l2_reason", ""))]
        for point, level in points
        if "l2_rms_mv" in level or level.get("l2_reason")
    ]
    return table(rows, header) if rows else []


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def _between_lines(family: SurrogateFamily) -> list[str]:
    lines: list[str] = []
    for corner, each in family.errors.items():
        if each:
            how = "extrapolating to" if each["extrapolated"] else "leaving out"
            lines.append(
                f"between points of {corner}: mean {each['mean_mv']:.2f} mV rms ({each['mean_counts']:.2f} counts), "
                f"sigma {each['sigma_relative']:.1%}, {how} {each['points']:.0f} points"
            )
    return lines


def fit_lines(surrogate: Surrogate) -> list[str]:
    """The held-out figures of lines and comparators as a table, masked points, sigmas, and the fast column's errors."""
    from cosim.surrogate.operating import point_of, records_of

    lines = [*_held_out_lines(surrogate), *_model_lines(surrogate.validation), *_offset_lines(surrogate)]
    records = records_of(surrogate.provenance)
    return lines + (_fast_lines([(str(point_of(records[0])), records[0])]) if len(records) == 1 else [])


def _held_out_lines(surrogate: Surrogate) -> list[str]:
    """A row for every view that samples were held out of; an offset has no slope, and thus no error in counts."""
    figures = surrogate.validation
    views = _VIEWS | {
        f"{sensing}_offset": f"offset, {each.amplifier}" for sensing, each in surrogate.comparators.items()
    }
    rows: list[list[str]] = []
    for key, label in views.items():
        if f"{key}_reads" not in figures:
            continue
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
    means, sigmas = "mean: mV rms (by chance)", "sigma: mV rms (by chance)"
    return table(rows, ["held-out samples", "reads", means, "counts", sigmas, "counts", "KS p"])


def _model_lines(figures: Mapping[str, float]) -> list[str]:
    """What the table does not show: masked points, unchecked reads, and errors between counts and operating points."""
    lines: list[str] = []
    if figures.get("masked_points"):
        lines.append(f"{figures['masked_points']:.0f} points masked: a cell flipped in one of their samples")
    if figures.get("rows_off_unchecked"):
        lines.append(f"{figures['rows_off_unchecked']:.0f} reads have fewer rows on than the fit covers; unchecked")
    if "cv_mean_mv" in figures:
        lines.append(
            f"model in both counts, cross-validated: mean {figures['cv_mean_mv']:.2f} mV rms "
            f"({figures['cv_mean_counts']:.2f} counts), sigma {figures['cv_sigma_relative']:.1%}, "
            f"skew {figures['cv_skew']:.2f}"
        )
    if "interpolation_mean_mv" in figures:
        at = {name: figures[f"interpolation_{name}"] for name in ("mean_mv", "mean_counts", "sigma_relative", "points")}
        lines.append(
            f"between operating points: mean {at['mean_mv']:.2f} mV rms ({at['mean_counts']:.2f} counts), "
            f"sigma {at['sigma_relative']:.1%}, as found by leaving out {at['points']:.0f} of them"
        )
    return lines


def _offset_lines(surrogate: Surrogate) -> list[str]:
    """Each comparator's sigma by level, for every common mode that it was measured at."""
    lines: list[str] = []
    for sensing, model in surrogate.comparators.items():
        for mode_v, each in model.slices():
            sigmas = ", ".join(
                f"{1e3 * s:.1f} at {v:g} V" if s == s else f"masked at {v:g} V"
                for v, s in zip(each.level_v, each.offset_sigma_v, strict=True)
            )
            mode = "" if mode_v is None else f" at a common mode of {mode_v:g} V"
            about = f"{model.amplifier} ({sensing}) offset sigma{mode} in mV, {model.samples} comparators a level"
            lines.append(f"{about}: {sigmas}")
        lines += _sensitivity_lines(model.amplifier, sensing, surrogate.validation)
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
