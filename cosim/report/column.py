"""The column's figures: voltage, spread and skew of BL and of BL - BLB against the count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from scipy.stats import skew as sample_skew

from cosim.report.run import Reads
from cosim.report.svg import BLUE, ORANGE, PAPER, PURPLE, draw
from cosim.surrogate.model import Sensing, Surrogate

MOST_DOTS = 720
"""Samples drawn in one panel; more would cost size and show nothing new."""

_FEWEST = 8
"""Samples from which a sigma or a skew is shown."""

Curve = Float[np.ndarray, " count"]


@dataclass(frozen=True, slots=True)
class View:
    """One sensed voltage against the number of rows that pull BL, all rows on.

    Args:
        *_error: Standard error of each curve.
        step_v: Volts that one more count moves the mean.
        at, volts, held_out: Monte Carlo reads; empty where the samples are not at hand.
    """

    name: str
    sensing: Sensing
    colour: str
    mean_v: Curve
    sigma_v: Curve
    skew: Curve
    sigma_error_v: Curve
    skew_error: Curve
    step_v: Curve
    at: Float[np.ndarray, " read"]
    volts: Float[np.ndarray, " read"]
    held_out: Bool[np.ndarray, " read"]

    @property
    def count(self) -> Curve:
        """0 to rows."""
        return np.arange(self.mean_v.size, dtype=float)

    @property
    def sigma_counts(self) -> Curve:
        """Sigma in counts: how many rows the spread is worth."""
        return self.sigma_v / self.step_v


def views(surrogate: Surrogate, reads: Reads | None) -> tuple[View, ...]:
    """BL, and BL - BLB with all rows on; BL alone of a column of one line.

    The errors of the difference are upper bounds: its two lines come from one fit, so their errors may add.
    """
    line, nothing = surrogate.line, np.zeros(0)
    at, volts, bar, held_out = nothing, nothing, nothing, np.zeros(0, bool)
    if reads is not None:
        at, volts, bar, held_out = reads.n_minus, reads.bl_v, reads.blb_v, reads.held_out
    plus = reads.n_plus if reads is not None else nothing
    count = np.arange(surrogate.rows + 1.0)
    mirrored = surrogate.lines == 2
    bl = View(
        "BL", "single_ended", BLUE, line.mean_v, line.sigma_v, line.skew, line.sigma_error_v, line.skew_error,
        _step(line.mean_v), np.concatenate((at, plus)) if mirrored else at,
        np.concatenate((volts, bar)) if mirrored else volts, np.tile(held_out, 2) if mirrored else held_out,
    )  # fmt: skip
    if not mirrored:
        return (bl,)
    both = surrogate.moments("differential", count, count[::-1])
    cubed = line.skew_error * line.sigma_v**3
    safe = np.where(both.sigma_v > 0, both.sigma_v, 1.0)
    weighted = line.sigma_v * line.sigma_error_v
    difference = View(
        "BL − BLB", "differential", ORANGE, both.mean_v, both.sigma_v, both.skew, (weighted + weighted[::-1]) / safe,
        (cubed + cubed[::-1]) / safe**3, _step(both.mean_v), at, volts - bar, held_out,
    )  # fmt: skip
    return bl, difference


def column_svgs(view: View) -> list[str]:
    """Voltage, deviation from the mean, sigma in mV and in counts, and skew."""
    about = f"of {view.name} against the number of rows that pull BL"
    panels: dict[str, tuple[str, Callable[[Axes, View], None]]] = {
        "voltage": (f"Mean and spread {about}", paint_voltage),
        "deviation": (f"Spread {about}, mean taken off", _paint_deviation),
        "sigma": (f"Standard deviation {about}", _paint_sigma),
        "counts": (f"Standard deviation in counts {about}", _paint_counts),
        "skew": (f"Skewness {about}", _paint_skew),
    }
    return [_panel(view, name, title, paint) for name, (title, paint) in panels.items()]


def dots_drawn(view: View) -> int:
    """How many of the view's samples a panel shows."""
    return _thinned(view).size


def paint_voltage(axes: Axes, view: View) -> None:
    """Mean, bands and samples in volts."""
    _bands(axes, view, view.mean_v, 1.0)
    _dots(axes, view, view.volts)
    axes.set_ylabel(f"{view.name} at read-out (V)")


def _panel(view: View, name: str, title: str, paint: Callable[[Axes, View], None]) -> str:
    def on(figure: Figure) -> None:
        axes = figure.subplots()
        paint(axes, view)
        label_count(axes, view)

    size = (4.9, 3.1) if name in ("voltage", "deviation") else (3.5, 2.5)
    margins = (0.62, 0.48, 0.12, 0.12) if size[0] > 4 else (0.55, 0.46, 0.1, 0.1)
    return draw(on, name=f"{view.sensing.replace('_', '-')}-{name}", title=title, size=size, margins=margins)


def label_count(axes: Axes, view: View) -> None:
    """The count's axis."""
    rows = view.mean_v.size - 1
    axes.set_xlabel("count (rows that pull BL)")
    axes.set_xlim(-0.02 * rows, 1.02 * rows)
    if rows % 4 == 0:
        axes.set_xticks(range(0, rows + 1, rows // 4), minor=False)


def _paint_deviation(axes: Axes, view: View) -> None:
    _bands(axes, view, np.zeros_like(view.mean_v), 1e3)
    _dots(axes, view, 1e3 * (view.volts - view.mean_v[view.at.astype(int)]))
    axes.set_ylabel(f"{view.name} less its mean (mV)")


def _paint_sigma(axes: Axes, view: View) -> None:
    _curve(axes, view, 1e3 * view.sigma_v, 1e3 * view.sigma_error_v)
    _measured(axes, view, lambda volts: 1e3 * volts.std(ddof=1), lambda n, value: value / np.sqrt(2 * (n - 1)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"σ of {view.name} (mV)")


def _paint_counts(axes: Axes, view: View) -> None:
    _curve(axes, view, view.sigma_counts, view.sigma_error_v / view.step_v)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"σ of {view.name} (counts)")


def _paint_skew(axes: Axes, view: View) -> None:
    _curve(axes, view, view.skew, view.skew_error)
    _measured(axes, view, lambda volts: float(sample_skew(volts, bias=False)), lambda n, value: np.sqrt(6 / n))
    axes.set_ylabel(f"skewness of {view.name}")


def _bands(axes: Axes, view: View, mean: Curve, scale: float) -> None:
    for sigmas, alpha in ((2, 0.16), (1, 0.24)):
        spread = scale * sigmas * view.sigma_v
        axes.fill_between(view.count, mean - spread, mean + spread, color=view.colour, alpha=alpha, linewidth=0)
    axes.plot(view.count, mean, color=view.colour)


def _curve(axes: Axes, view: View, values: Curve, errors: Curve) -> None:
    axes.fill_between(view.count, values - 2 * errors, values + 2 * errors, color=view.colour, alpha=0.2, linewidth=0)
    axes.plot(view.count, values, color=view.colour)


def _dots(axes: Axes, view: View, values: Float[np.ndarray, " read"]) -> None:
    """Samples as dots: fitted ones just left of their count, held-out ones just right."""
    shown = _thinned(view)
    for held, shift, colour in ((False, -0.3, view.colour), (True, 0.3, PURPLE)):
        chosen = shown[view.held_out[shown] == held]
        points = np.repeat(np.stack([view.at[chosen] + shift, values[chosen]], axis=1), 2, axis=0)
        if not points.size:
            continue
        # One path of dots is a tenth of the size of as many markers.
        outline = Outline(points, [Outline.MOVETO, Outline.LINETO] * chosen.size)
        style = {"fill": False, "capstyle": "round", "edgecolor": colour, "linewidth": 2.1, "alpha": 0.6}
        axes.add_patch(PathPatch(outline, **style))
        axes.update_datalim(points)
    axes.autoscale_view()


def _thinned(view: View) -> np.ndarray:
    """The first samples of each count, equally many of each, held-out ones in their share."""
    counts = np.unique(view.at)
    each = max(8, MOST_DOTS // max(1, counts.size))
    picked = [np.flatnonzero(view.at == count)[:each] for count in counts]
    return np.concatenate(picked) if picked else np.zeros(0, np.int64)


def _measured(
    axes: Axes,
    view: View,
    figure_of: Callable[[Float[np.ndarray, " read"]], float],
    error_of: Callable[[int, float], float],
) -> None:
    """A figure of the samples at each count, +- one standard error; filled where fitted, open where held out."""
    for held, shift, colour in ((False, -0.3, view.colour), (True, 0.3, PURPLE)):
        mask = (view.held_out == held) & (view.at > 0)
        groups = {count: view.volts[mask & (view.at == count)] for count in np.unique(view.at[mask])}
        groups = {count: volts for count, volts in groups.items() if volts.size >= _FEWEST}
        if not groups:
            continue
        values = [figure_of(volts) for volts in groups.values()]
        errors = [error_of(volts.size, value) for volts, value in zip(groups.values(), values, strict=True)]
        axes.errorbar(
            np.array(list(groups)) + shift, values, errors, fmt="o", color=colour, markersize=3.6,
            markerfacecolor=PAPER if held else colour, elinewidth=1, linestyle="none",
        )  # fmt: skip


def _step(mean_v: Curve) -> Curve:
    return np.maximum(np.abs(np.gradient(mean_v)), 1e-12)
