"""What a campaign will do, and where cells flipped, as plain-text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosim.cli.console import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosim.campaign.flips import Flips
    from cosim.campaign.schedule import PlannedPoint, Schedule

_BEFORE = {"bias": "a safe bias", "fast": "the fast column"}


def plan_lines(planned: Schedule) -> list[str]:
    """A row for each point; with several operating points, one for the columns and the comparators of each."""
    several = len(planned.operating) > 1
    header = ["operating point" if several else "point", "level", "samples", "done", "ms a sample", "s left"]
    rows: list[list[str]] = []
    for index, each in enumerate(planned.operating):
        points = [point for point in planned.points if point.operating == index]
        if several:
            rows += _summed(each.label, points)
        else:
            rows += [[point.label, *_figures([point])] for point in points]
    remarks = [f"{each.label}: {each.reason}" for each in planned.operating if each.reason]
    return [*table(rows, header), *remarks, *_before(planned)]


def flip_lines(flips: Sequence[Flips]) -> list[str]:
    """The flip map: an operating point a row, counts as columns, and the share of samples with flipped cells."""
    if not flips:
        return []
    counts = sorted({(each.n_minus, each.n_plus) for each in flips})
    shares = {(each.point, each.n_minus, each.n_plus): f"{100 * each.share:.1f} %" for each in flips}
    rows = [
        [point or "all points", *(shares.get((point, *count), "0") for count in counts)]
        for point in dict.fromkeys(each.point for each in flips)
    ]
    header = ["cells flipped, share of samples at", *(f"{minus}+{plus}" for minus, plus in counts)]
    return [*table(rows, header), "(rows on BL + rows on BLB; other counts and operating points have no flipped cell)"]


def _summed(label: str, points: Sequence[PlannedPoint]) -> list[list[str]]:
    """One row for each level of the columns, and one for the comparators."""
    columns = [point for point in points if point.label.startswith("column")]
    rows: list[list[str]] = []
    for level in ("L2", "L0"):
        chosen = [point for point in columns if point.level == level]
        if chosen:
            rows.append([f"{label}: {len(chosen)} counts", *_figures(chosen)])
    comparators = [point for point in points if point not in columns]
    if comparators:
        rows.append([f"  {len(comparators)} comparator levels", *_figures(comparators)])
    return rows


def _figures(points: Sequence[PlannedPoint]) -> list[str]:
    sample_s = max(point.sample_s for point in points)
    milliseconds = f"{1e3 * sample_s:.0f}" if sample_s >= 1e-3 else f"{1e3 * sample_s:.1f}"
    totals = (sum(point.samples for point in points), sum(point.done for point in points))
    return [points[0].level, *map(str, totals), milliseconds, f"{sum(point.left_s for point in points):.0f}"]


def _before(planned: Schedule) -> list[str]:
    """What is to be found and built before the first sample."""
    waiting = {name: sum(name in each.waits for each in planned.operating) for name in _BEFORE}
    parts = [f"{_BEFORE[name]} of {n} operating point{'s' if n > 1 else ''}" for name, n in waiting.items() if n]
    seconds = sum(each.left_s for each in planned.operating)
    return [f"before the samples: {' and '.join(parts)}, {seconds:.0f} s"] if parts else []
