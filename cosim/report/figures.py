"""The page's other figures: accuracies, comparators, levels, codes; and the one of the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETUPBASE

from cosim.network.outcome import Outcome
from cosim.report.column import label_count, paint_voltage, views
from cosim.report.run import KeptCalibration, Run
from cosim.report.svg import BLUE, FILL, GREEN, INK, ORANGE, PAPER, SOFT, draw, label
from cosim.report.tables import condition, network_outcomes, sensing_name
from cosim.surrogate.calibration import Group, Levels, group_name
from cosim.surrogate.model import ComparatorModel, Sensing

MOST_ROWS = 24
"""Outcomes of one network in one figure."""

_MOST_LABELS = 8


def accuracy_svg(network: str, outcomes: Sequence[Outcome], name: str) -> str:
    """Accuracies of one network with their 95 % intervals, a row each."""
    shown = outcomes[:MOST_ROWS]

    def paint(figure: Figure) -> None:
        _paint_accuracy(figure.subplots(), shown)

    title = f"Accuracy of {network}: " + "; ".join(
        f"{condition(each, outcomes)} {100 * each.accuracy.value:.2f} %" for each in shown
    )
    left = label_width(condition(each, outcomes) for each in shown)
    size = (5.2, 0.6 + 0.28 * len(shown))
    return draw(paint, name=name, title=title, size=size, margins=(left, 0.46, 0.68, 0.08))


def comparator_svg(sensing: Sensing, model: ComparatorModel) -> str:
    """Offset sigma and mean against the reference level, with standard errors; for each common mode where several."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        colour = _colour(sensing)
        known_v = model.level_v[model.good]
        fine = np.linspace(known_v[0], known_v[-1], 61)
        axes.axhline(0, color=SOFT, linewidth=0.8)
        curves = _different(model)
        for _, each in curves:
            axes.plot(fine, 1e3 * each.at(fine).sigma_v, color=colour)
            own = measured_levels(each)
            level_v, sigma_v, error_v = each.level_v[own], each.offset_sigma_v[own], each.sigma_error_v[own]
            _error_bars(axes, level_v, sigma_v, error_v, colour, colour)
            _error_bars(axes, level_v, each.offset_mean_v[own], sigma_v / np.sqrt(each.samples), SOFT, PAPER)
        _name_curves(axes, curves, known_v[-1], colour)
        axes.set_xlabel(f"reference for {sensing_name(sensing)} sensing (V)")
        axes.set_ylabel("input-referred offset (mV)")

    title = f"Offset of {label(model.amplifier)} against its reference, mean and standard deviation"
    name = f"comparator-{sensing.replace('_', '-')}"
    return draw(paint, name=name, title=title, margins=(0.62, 0.48, 0.5 if model.gridded else 0.12, 0.12))


def _different(model: ComparatorModel) -> list[tuple[float | None, ComparatorModel]]:
    """The model at each common mode but those that are as the one before: none was measured above the supply."""
    slices = model.slices()
    return slices[:1] + [
        here
        for before, here in pairwise(slices)
        if not np.array_equal(before[1].offset_sigma_v, here[1].offset_sigma_v, equal_nan=True)
    ]


def measured_levels(model: ComparatorModel) -> Bool[np.ndarray, " level"]:
    """Levels of one common mode with figures of their own: outer ones may be as the nearest that was measured."""
    sigma_v, middle = model.offset_sigma_v, model.level_v.size // 2
    inner = np.where(np.arange(sigma_v.size) < middle, np.roll(sigma_v, -1), np.roll(sigma_v, 1))
    return model.good & ((sigma_v != inner) | (np.arange(sigma_v.size) == middle))


def _name_curves(axes: Axes, curves: Sequence[tuple[float | None, ComparatorModel]], at_v: float, colour: str) -> None:
    """Each curve's common mode at its right end, a line apart from the one below."""
    ends = sorted((1e3 * float(each.at(np.array([at_v])).sigma_v[0]), mode_v) for mode_v, each in curves if mode_v)
    room = 0.05 * float(np.ptp(axes.get_ylim()))
    below = -np.inf
    for end, mode_v in ends:
        below = max(end, below + room)
        axes.annotate(
            f"{mode_v:.2f} V", (at_v, below), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8,
            color=colour, annotation_clip=False,
        )  # fmt: skip


def levels_svg(kept: KeptCalibration, group: Group, name: str) -> str:
    """Training partial sums of one layer with the thresholds and centroids."""
    levels, sensing = kept.calibration.levels[group], kept.calibration.sensing

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        mac = partial_sums(levels)
        share = 100 * levels.histogram / levels.histogram.sum()
        axes.fill_between(mac, share, step="mid", color=FILL, linewidth=0)
        _thresholds(axes, levels)
        axes.plot(
            levels.centroid_mac,
            np.zeros_like(levels.centroid_mac),
            color=GREEN,
            marker=CARETUPBASE,
            markersize=7,
            linestyle="none",
        )
        axes.set_xlim(*mac_range(levels))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"partial sum of {group[1]} rows")
        axes.set_ylabel("share of partial sums (%)")

    title = (
        f"Partial sums of layer {label(group_name(group), 80)} with {sensing_name(sensing)} thresholds and centroids"
    )
    top = 0.6 if _are_few(levels) else 0.12
    return draw(paint, name=name, title=title, size=(4.9, 2.7 + top), margins=(0.62, 0.48, 0.12, top))


def codes_svg(kept: KeptCalibration, group: Group, probability: Float[np.ndarray, "count code"], name: str) -> str:
    """The probability of each code against the partial sum."""
    levels, sensing = kept.calibration.levels[group], kept.calibration.sensing

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _paint_codes(axes, levels, probability)
        axes.set_xlabel(f"partial sum of {group[1]} rows")
        axes.set_ylabel("probability of each code (%)")

    title = f"Probability of each code against the partial sum, {sensing_name(sensing)} sensing"
    return draw(paint, name=name, title=title)


def overview_svg(run: Run) -> str:
    """BL's distribution against the count beside accuracy by mode, as a picture of its own."""
    networks = network_outcomes(run.outcomes)

    left = label_width(condition(each, outcomes) for outcomes in networks.values() for each in outcomes)
    width = 10.6

    def paint(figure: Figure) -> None:
        heights = [len(each) + 1.6 for each in networks.values()]
        columns = figure.add_gridspec(1, 2, width_ratios=(1, 1), wspace=2 * (left + 0.2) / (width - left - 1))
        axes = figure.add_subplot(columns[0])
        view = views(run.surrogate, run.reads)[0]
        paint_voltage(axes, view)
        label_count(axes, view)
        axes.set_title("BL against count: mean, ±1σ, ±2σ, samples")
        rows = columns[1].subgridspec(len(networks), 1, height_ratios=heights, hspace=0.5)
        for index, (network, outcomes) in enumerate(networks.items()):
            axes = figure.add_subplot(rows[index])
            _paint_accuracy(axes, outcomes)
            axes.set_title(label(network) + ", 95 % intervals")

    title = "Left: bit-line voltage against count. Right: network accuracy by mode with 95 % intervals."
    height = max(3.6, 0.4 + sum(0.62 + 0.25 * len(each) for each in networks.values()))
    return draw(
        paint, name="overview", title=title, size=(width, height), margins=(0.62, 0.5, 0.8, 0.32), standalone=True
    )


def label_width(labels: Iterable[str]) -> float:
    """Room for the longest label, in inches."""
    return 0.2 + 0.075 * max(len(text) for text in labels)


def partial_sums(levels: Levels) -> Float[np.ndarray, " count"]:
    """The partial sum at each `n_minus`: falls from all rows to minus all rows."""
    n_active = levels.histogram.size - 1
    return n_active - 2.0 * np.arange(n_active + 1)


def mac_range(levels: Levels) -> tuple[float, float]:
    """Partial sums that hold all but one in ten thousand on either side, with the levels."""
    share = np.cumsum(levels.histogram[::-1]) / levels.histogram.sum()
    rising = partial_sums(levels)[::-1]
    low, high = rising[np.searchsorted(share, 1e-4)], rising[min(np.searchsorted(share, 1 - 1e-4), rising.size - 1)]
    low, high = min(low, levels.centroid_mac[0]), max(high, levels.centroid_mac[-1])
    return float(low) - 2, float(high) + 2


def _paint_accuracy(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    place = -np.arange(len(outcomes), dtype=float)
    for y, each in zip(place, outcomes, strict=True):
        accuracy, colour = each.accuracy, _colour(each.sensing)
        axes.plot([100 * accuracy.low, 100 * accuracy.high], [y, y], color=colour, linewidth=2.2)
        axes.plot(100 * accuracy.value, y, "o", color=colour, markersize=6)
        axes.annotate(
            f"{100 * accuracy.value:.2f} %", (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8.5, annotation_clip=False,
        )  # fmt: skip
    ideal = [each for each in outcomes if each.mode == "ideal"]
    if ideal:
        axes.axvline(100 * ideal[0].accuracy.value, color=SOFT, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_yticks(place, [condition(each, outcomes) for each in outcomes])
    axes.set_ylim(-len(outcomes) + 0.4, 0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("test images classified correctly (%)")


def _thresholds(axes: Axes, levels: Levels) -> None:
    few = _are_few(levels)
    n_active = levels.histogram.size - 1
    low, high = mac_range(levels)
    for count, volts in zip(levels.threshold_count, levels.reference_v, strict=True):
        x = n_active - 2 * count
        if not low <= x <= high:  # A reference that all numbers of rows share may lie beyond the sums of few rows.
            continue
        axes.axvline(x, color=ORANGE, linewidth=1.1)
        if few:
            axes.annotate(
                f"{volts:.3f} V".replace("-", "−"), (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", rotation=90, ha="center", va="bottom", fontsize=8, color=INK,
            )  # fmt: skip


def _paint_codes(axes: Axes, levels: Levels, probability: Float[np.ndarray, "count code"]) -> None:
    low, high = mac_range(levels)
    mac = partial_sums(levels)
    shown = (mac >= low) & (mac <= high)
    few = _are_few(levels)
    for code in range(probability.shape[1]):
        colour, percent = (BLUE, ORANGE)[code % 2], 100 * probability[shown, code]
        axes.fill_between(mac[shown], percent, color=colour, alpha=0.13, linewidth=0)
        axes.plot(mac[shown], percent, color=colour, linewidth=1.3)
        if few and percent.size:
            peak = int(np.flatnonzero(percent >= 0.98 * percent.max()).mean())
            axes.annotate(
                str(code), (mac[shown][peak], percent[peak]), xytext=(0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5, color=colour, weight="bold",
            )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_ylim(0, 112)
    axes.set_yticks([0, 25, 50, 75, 100])


def _are_few(levels: Levels) -> bool:
    """Whether there is room for a word at each level."""
    return levels.reference_v.size <= _MOST_LABELS


def _error_bars(
    axes: Axes,
    level_v: Float[np.ndarray, " level"],
    value_v: Float[np.ndarray, " level"],
    error_v: Float[np.ndarray, " level"],
    colour: str,
    face: str,
) -> None:
    axes.errorbar(
        level_v, 1e3 * value_v, 1e3 * error_v, fmt="o", color=colour, markerfacecolor=face, markersize=4.5,
        elinewidth=1.2,
    )  # fmt: skip


def _colour(sensing: str) -> str:
    return {"single_ended": BLUE, "differential": ORANGE}.get(sensing, INK)
