"""The page of a run: one HTML file with everything in it, for a reader who sees it for the first time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cosim.atomic import replace_file
from cosim.errors import InputError
from cosim.network.outcome import Outcome
from cosim.report import figures, tables
from cosim.report.column import View, column_svgs, dots_drawn, views
from cosim.report.origin import operating_point, samples_from
from cosim.report.run import KeptCalibration, Run, load_run
from cosim.report.svg import label, theme_css, themed
from cosim.surrogate.calibration import Group, group_name

MOST_BYTES = 1_500_000
"""Largest page."""

MOST_GROUPS = 12
"""Groups whose levels are drawn for one calibration; the table has every layer."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure with its heading."""

    svg: Markup
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One large figure of the result."""

    value: str
    interval: str
    name: str
    note: str


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """What the page says first of a network."""

    name: str
    dataset: str
    tiles: tuple[Tile, ...]
    panel: Panel
    table: tables.Table


@dataclass(frozen=True, slots=True)
class ColumnResult:
    """What the page shows of one sensed voltage."""

    view: View
    panels: tuple[Panel, ...]
    drawn: int
    middle: str


def write_page(run: Path, surrogate: str | Path | None = None) -> Path:
    """Write `report.html` into a run's folder: no script, no request, the same bytes for the same results.

    Args:
        run: Folder with surrogate.h5, outcomes.json, calibrations and, where they were simulated there, samples.h5.
        surrogate: The surrogate's file or name, where it is not the folder's own.

    Raises:
        InputError: Something is missing, damaged or of another surrogate; the hint is the command that makes it.
        UnsafeError: A file reaches outside itself.
    """
    raw = page_of(load_run(run, surrogate)).encode()
    path = run / "report.html"
    if len(raw) > MOST_BYTES:
        raise InputError(f"the page has {len(raw)} bytes, expected at most {MOST_BYTES}", place=str(path))
    replace_file(path, raw)
    return path


def write_figure(run: Path, path: Path, surrogate: str | Path | None = None) -> Path:
    """Write one SVG file: BL's distribution against the count beside accuracy by mode.

    Raises:
        InputError: As `write_page`, or the file's name does not end in .svg.
    """
    if path.suffix != ".svg":
        raise InputError("expected a name that ends in .svg", place=str(path))
    replace_file(path, (figures.overview_svg(load_run(run, surrogate)) + "\n").encode())
    return path


def page_of(run: Run) -> str:
    """The page's HTML."""
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["themed"] = themed
    about, codes = run.surrogate.provenance, tables.code_tables(run)
    return environment.get_template("page.html.j2").render(
        theme=Markup(theme_css()),
        cell=label(str(about.get("cell", "the cell"))),
        about={name: label(str(value), 100) for name, value in about.items() if len(str(value)) < 2000},
        run=run,
        networks=_networks(run),
        columns=[_column(view) for view in views(run.surrogate, run.reads)],
        comparators=[
            Panel(Markup(figures.comparator_svg(sensing, model)), f"{label(model.amplifier)}, {model.samples} a level")
            for sensing, model in sorted(run.surrogate.comparators.items(), reverse=True)
        ],
        levels=_levels(run),
        codes=_codes(run, codes),
        level_table=tables.level_table(run, codes),
        held_out=tables.held_out_table(run.surrogate.validation),
        correlation=run.surrogate.validation.get("line_correlation"),
        samples_from=samples_from(about),
        operating_point=operating_point(about),
        provenance=tables.provenance_table(run),
        calibrations=tables.calibration_tables(run),
        evaluations=tables.outcome_table(run.outcomes),
        failures=tables.failures(run),
        texts=tables.texts(run),
    )


def _networks(run: Run) -> list[NetworkResult]:
    return [
        NetworkResult(
            name=label(name),
            dataset=label(outcomes[0].dataset),
            tiles=tuple(_tile(each, outcomes) for each in _headline(outcomes)),
            panel=Panel(Markup(figures.accuracy_svg(name, outcomes, f"accuracy-{index}"))),
            table=tables.accuracy_table(name, outcomes),
        )
        for index, (name, outcomes) in enumerate(tables.network_outcomes(run.outcomes).items())
    ]


def _headline(outcomes: list[Outcome]) -> list[Outcome]:
    """Ideal, and the mode nearest to a chip for each sensing: the figures of most images and fewest seeds."""
    chosen: dict[tuple[str, int], Outcome] = {}
    for each in outcomes:
        if each.mode == "nominal":
            continue
        kept = chosen.get((each.sensing, each.bits))
        if kept is None or each.accuracy.n > kept.accuracy.n:
            chosen[each.sensing, each.bits] = each
    return list(chosen.values())[:5]


def _tile(outcome: Outcome, among: list[Outcome]) -> Tile:
    accuracy, lost = outcome.accuracy, tables.loss(outcome, among)
    name = (
        "exact sums (ideal)"
        if outcome.mode == "ideal"
        else f"{tables.sensing_name(outcome.sensing)}, {outcome.bits} bit ({outcome.mode})"
    )
    return Tile(
        value=f"{100 * accuracy.value:.2f} %",
        interval=f"{100 * accuracy.low:.2f} to {100 * accuracy.high:.2f}",
        name=label(name),
        note="" if lost is None else f"{tables.points_of(lost.value)} points lost",
    )


def _column(view: View) -> ColumnResult:
    headings = (
        "Voltage at read-out",
        "Spread around the mean",
        "Standard deviation",
        "… in counts",
        "Skewness",
    )
    panels = tuple(Panel(Markup(svg), heading) for svg, heading in zip(column_svgs(view), headings, strict=True))
    half = view.mean_v.size // 2
    middle = (
        f"At count {half}: mean {1e3 * view.mean_v[half]:.0f} mV, σ {1e3 * view.sigma_v[half]:.1f} ± "
        f"{1e3 * view.sigma_error_v[half]:.1f} mV or {view.sigma_counts[half]:.2f} counts, "
        f"{1e3 * view.step_v[half]:.1f} mV a count, skewness {view.skew[half]:.2f} ± {view.skew_error[half]:.2f}."
    )
    return ColumnResult(view, panels, dots_drawn(view), middle.replace("-", "−"))


def _levels(run: Run) -> list[Panel]:
    """Layer by layer, so that the sensings of one layer stand side by side."""
    chosen = [(kept, group) for kept in run.calibrations for group in _largest(kept)]
    order = {id(kept): index for index, kept in enumerate(run.calibrations)}
    chosen.sort(key=lambda pair: (pair[0].network, pair[0].calibration.bits, pair[1], order[id(pair[0])]))
    return [
        Panel(
            Markup(figures.levels_svg(kept, group, f"levels-{index}")),
            f"{_about(kept)}, {label(group_name(group), 80)}, {group[1]} rows on",
        )
        for index, (kept, group) in enumerate(chosen)
    ]


def _codes(run: Run, codes: tables.CodeTables) -> list[Panel]:
    panels: list[Panel] = []
    for index, kept in enumerate(run.calibrations):
        group = max(kept.calibration.levels, key=lambda each: _partial_sums(kept, each))
        svg = figures.codes_svg(kept, group, codes[kept.file, group], f"codes-{index}")
        panels.append(Panel(Markup(svg), f"{_about(kept)}, {label(group_name(group), 80)}"))
    return panels


def _about(kept: KeptCalibration) -> str:
    sensing = tables.sensing_name(kept.calibration.sensing)
    mlsa = ", sequential" if kept.mlsa == "sequential" else ""
    return f"{label(kept.network)}, {sensing}, {kept.calibration.bits} bit{mlsa}"


def _largest(kept: KeptCalibration) -> list[Group]:
    """The groups to draw, in the calibration's order: of each layer those with most partial sums before its others.

    Of pairs of bits those that are worth most come first.
    """
    groups = [group for group in kept.calibration.levels if _partial_sums(kept, group)]
    groups_of: dict[str, list[Group]] = {}
    for group in sorted(groups, key=lambda each: (-_partial_sums(kept, each), -sum(each[2:]))):
        groups_of.setdefault(group[0], []).append(group)
    place = {group: place for of_layer in groups_of.values() for place, group in enumerate(of_layer)}
    chosen = sorted(groups, key=lambda each: (place[each], -_partial_sums(kept, each)))[:MOST_GROUPS]
    return [group for group in groups if group in chosen]


def _partial_sums(kept: KeptCalibration, group: Group) -> int:
    return int(np.sum(kept.calibration.levels[group].histogram))
