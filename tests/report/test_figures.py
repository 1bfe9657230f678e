"""What the figures draw, and how they are written."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from cosim.report import column, figures, svg
from cosim.report.run import load_run


def test_difference_is_composed_of_both_lines(whole_run: Path) -> None:
    run = load_run(whole_run)
    bl, difference = column.views(run.surrogate, run.reads)
    line = run.surrogate.line
    assert difference.sigma_v == pytest.approx(np.hypot(line.sigma_v, line.sigma_v[::-1]))
    assert difference.step_v == pytest.approx(2 * bl.step_v)
    # At half of the rows both lines are one estimate, so the difference's error is root two times the line's.
    assert difference.sigma_error_v[8] == pytest.approx(np.sqrt(2) * line.sigma_error_v[8])
    assert bl.sigma_counts[16] == pytest.approx(5e-3 * 4 / 0.04)
    assert bl.at.size == 2 * difference.at.size == 2 * 9 * 64


def test_samples_lie_around_the_model(whole_run: Path) -> None:
    run = load_run(whole_run)
    for view in column.views(run.surrogate, run.reads):
        some = view.at > 0
        at = view.at[some].astype(int)
        standard = (view.volts[some] - view.mean_v[at]) / view.sigma_v[at]
        # The samples were drawn from this model: mean 0 +- 1 / root n and sigma 1 +- 1 / root 2n, five errors wide.
        assert abs(standard.mean()) < 5 / np.sqrt(at.size)
        assert abs(standard.std() - 1) < 5 / np.sqrt(2 * at.size)


def test_dots_are_thinned_evenly(whole_run: Path) -> None:
    run = load_run(whole_run)
    view = column.views(run.surrogate, run.reads)[0]
    assert column.dots_drawn(view) == 9 * (column.MOST_DOTS // 9)
    drawing = column.column_svgs(view)[0]
    dots = [path for path in re.findall(r'<path d="([^"]*)"', drawing) if "h0" in path]
    assert [path.count("h0") for path in dots] == [9 * 60, 9 * 20]
    assert "NaN" not in drawing


def test_every_colour_follows_the_theme(whole_run: Path) -> None:
    run = load_run(whole_run)
    drawings = [figures.overview_svg(run), *column.column_svgs(column.views(run.surrogate, run.reads)[1])]
    for drawing in drawings:
        body = re.sub(r"<style>.*?</style>|var\(--\w+,#\w+\)", "", drawing)
        assert re.findall(r"#[0-9a-f]{3,6}\b(?![-\w])", re.sub(r'(id|href)="[^"]*"|url\([^)]*\)', "", body)) == []


def test_names_cannot_break_the_drawing() -> None:
    name = 'a<b>&"$\\frac$ \x00\x1b'

    def paint(figure: Figure) -> None:
        figure.subplots().set_title(svg.label(name))

    root = ElementTree.fromstring(svg.draw(paint, name="x", title=name))
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]
    assert 'a<b>&"$\\frac$' in texts
    assert root.find("{http://www.w3.org/2000/svg}title").text == 'a<b>&"$\\frac$'


def test_users_style_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    def paint(figure: Figure) -> None:
        figure.subplots().plot([0, 1], [1, 2])

    before = svg.draw(paint, name="x", title="t")
    monkeypatch.setitem(matplotlib.rcParams, "grid.linestyle", "--")
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    assert svg.draw(paint, name="x", title="t") == before
    assert matplotlib.rcParams["lines.linewidth"] == 9


def test_partial_sums_fall_with_the_count(whole_run: Path) -> None:
    levels = load_run(whole_run).calibrations[0].calibration.levels["dense2", 16]
    assert figures.partial_sums(levels)[[0, 8, 16]].tolist() == [16, 0, -16]
    low, high = figures.mac_range(levels)
    mac = figures.partial_sums(levels)
    inside = levels.histogram[(mac >= low) & (mac <= high)].sum()
    assert inside >= (1 - 2e-4) * levels.histogram.sum()
    assert low <= levels.centroid_mac.min() < levels.centroid_mac.max() <= high
