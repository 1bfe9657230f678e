"""The page's tables as plain text, every figure with its unit in the header."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cosim.network.outcome import Outcome
from cosim.network.sensing import probabilities
from cosim.report.run import KeptCalibration, Run
from cosim.report.svg import label
from cosim.stats import Estimate
from cosim.surrogate.calibration import Group, group_name
from cosim.surrogate.codes import nominal_codes
from cosim.surrogate.model import Surrogate

MOST_TEXT = 60_000
"""Characters of a recipe or netlist on the page; a longer one is cut, and says so."""

CodeTables = Mapping[tuple[str, Group], Float[np.ndarray, "count code"]]
"""P(code | count) by calibration file and layer."""

_MOST_NUMBERS = 4
"""Numbers of rows on that have a row each: of whole sub-arrays, and of those with left-over rows and padding."""

_MODES = ("ideal", "nominal", "iid")
_VIEWS = {
    "bl": "BL",
    "blb": "BLB, the mirror image",
    "difference": "BL − BLB",
    "rows_off_bl": "BL, some rows off",
    "rows_off_blb": "BLB, some rows off",
    "rows_off_difference": "BL − BLB, some rows off",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, a header, and rows of which the first cell is a header too.

    Args:
        words: The columns, from the first, that hold words; the others hold numbers.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


def network_outcomes(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by network, ideal first, then by sensing, bits and mode."""
    ordered = sorted(outcomes, key=_order)
    return {name: [each for each in ordered if each.network == name] for name in dict.fromkeys(map(_name, ordered))}


def condition(outcome: Outcome, among: Sequence[Outcome]) -> str:
    """Mode and sensing, with whatever else tells this outcome from the others."""
    parts = [outcome.mode]
    circuits = [each for each in among if each.mode != "ideal"]
    if outcome.mode != "ideal":
        parts.append(" ".join(part for part in (sensing_name(outcome.sensing), outcome.amplifier) if part))
        parts += [f"{outcome.bits} bit"] * (len({each.bits for each in circuits}) > 1)
        parts += [levels_name(outcome)] * (len({each.levels_per for each in circuits}) > 1)
        parts += [f"seed {outcome.seed}"] * (len({each.seed for each in circuits}) > 1)
    parts += [f"n = {outcome.accuracy.n}"] * (len({each.accuracy.n for each in among}) > 1)
    return ", ".join(label(part) for part in parts)


def sensing_name(sensing: str) -> str:
    """As a reader writes it."""
    return sensing.replace("_", "-")


def levels_name(outcome: Outcome) -> str:
    """What has levels of its own, of layers of several bits; empty of others."""
    return {"pair": "levels for each pair of bits", "layer": "levels for all pairs of bits"}.get(outcome.levels_per, "")


def loss(outcome: Outcome, among: Sequence[Outcome]) -> Estimate | None:
    """Points of accuracy lost against ideal on as many images; none for ideal itself, or where there is no ideal.

    The interval is Newcombe's from two Wilson intervals (Statistics in Medicine 17, 1998, method 10), which takes
    the two as independent; both saw the same images, so it is on the wide side.
    """
    same = [each for each in among if each.mode == "ideal" and each.accuracy.n == outcome.accuracy.n]
    if outcome.mode == "ideal" or not same:
        return None
    ideal, read = same[0].accuracy, outcome.accuracy
    value = ideal.value - read.value
    low = value - math.hypot(ideal.value - ideal.low, read.high - read.value)
    high = value + math.hypot(ideal.high - ideal.value, read.value - read.low)
    return Estimate(100 * value, 100 * low, 100 * high, read.n)


def points_of(value: float) -> str:
    """Two digits, a real minus, and no minus before zero.

    >>> points_of(-0.001), points_of(-1.5)
    ('0.00', '−1.50')
    """
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def accuracy_table(network: str, outcomes: Sequence[Outcome]) -> Table:
    """Every outcome of one network."""
    header = (
        "mode",
        "sensing",
        "bits",
        "seed",
        "accuracy (%)",
        "95 % interval (%)",
        "lost against ideal (points)",
        "n",
    )
    rows = [(each.mode, *_circuit(each), *_measured(each, outcomes)) for each in outcomes]
    return Table(f"Accuracy of {network} on {outcomes[0].dataset}", header, tuple(rows), 2)


def code_tables(run: Run) -> CodeTables:
    """P(code | count) of every group that was read, with its calibration's sense amplifier or converter."""
    return {
        (kept.file, group): probabilities(run.surrogate, kept.calibration, group[1], levels, kept.mlsa)
        for kept in run.calibrations
        for group, levels in kept.calibration.levels.items()
        if levels.histogram.any()
    }


def level_table(run: Run, codes: CodeTables) -> Table:
    """How often a code is the right one, and what the levels cost, for each layer.

    A layer whose inputs turn rows off has levels for every number of rows on: one row of the table for all of them.
    """
    header = (
        "layer", "sensing", "rows on", "bits", "partial sums", "code as nominal (%)",
        "rms error, levels alone", "rms error with variation",
    )  # fmt: skip
    rows = [_level_row(run.surrogate, kept, groups, codes) for kept in run.calibrations for groups in _rows_of(kept)]
    return Table("Levels, from training images; errors in units of the partial sum", header, tuple(rows), 2)


def held_out_table(figures: Mapping[str, float]) -> Table:
    """The fit against samples that it has not seen."""
    header = (
        "voltage", "reads", "error of mean, rms (mV)", "by chance (mV)", "(counts)",
        "error of σ, rms (mV)", "by chance (mV)", "(counts)", "KS p",
    )  # fmt: skip
    names = (
        "mean_rms_mv",
        "mean_expected_mv",
        "mean_rms_counts",
        "sigma_rms_mv",
        "sigma_expected_mv",
        "sigma_rms_counts",
    )
    rows: list[tuple[str, ...]] = []
    for key, name in _VIEWS.items():
        if all(f"{key}_{each}" in figures for each in ("reads", *names, "ks_p")):
            values = [f"{figures[f'{key}_{each}']:.2f}" for each in names]
            rows.append((name, f"{figures[f'{key}_reads']:.0f}", *values, f"{figures[f'{key}_ks_p']:.3f}"))
    return Table("The model against held-out samples", header, tuple(rows))


def provenance_table(run: Run) -> Table:
    """Where the surrogate came from, apart from the long texts."""
    about = dict(run.surrogate.provenance) | {
        "surrogate_" + name: run.header[name]
        for name in ("content_hash", "header_hash", "version", "created_at", "cosim_version")
        if name in run.header
    }
    rows = [(name, label(str(value), 200)) for name, value in sorted(about.items()) if not _is_long(name)]
    return Table("Surrogate: hashes are SHA-256 of content, never of paths", ("what", "value"), tuple(rows), 2)


def calibration_tables(run: Run) -> list[Table]:
    """Where each calibration came from."""
    tables: list[Table] = []
    for kept in run.calibrations:
        about = dict(kept.calibration.provenance) | {
            name: kept.header[name] for name in ("content_hash", "created_at", "cosim_version") if name in kept.header
        }
        rows = tuple((name, label(str(value), 200)) for name, value in sorted(about.items()))
        tables.append(Table(kept.file, ("what", "value"), rows, 2))
    return tables


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """What each evaluation read and its key."""
    header = ("network", "mode", "sensing", "key", "bits", "seed", "partial sums", "time (s)")
    rows = [
        (
            label(each.network),
            each.mode,
            sensing,
            label(each.key, 64),
            *circuit,
            f"{each.partial_sums:,}",
            f"{each.seconds:.2f}",
        )
        for each in outcomes
        for sensing, *circuit in [_circuit(each)]
    ]
    return Table(
        "Evaluations; the key is a hash of network, images, surrogate, levels, mode and seed", header, tuple(rows), 4
    )


def texts(run: Run) -> dict[str, str]:
    """The recipe and the netlists, by title."""
    found = run.surrogate.provenance
    return {
        "Recipe" if name == "recipe" else f"Netlist: {name.removeprefix('netlist_')}": _cut(str(found[name]))
        for name in sorted(found, key=lambda name: (name != "recipe", name))
        if name == "recipe" or _is_netlist(name)
    }


def failures(run: Run) -> list[tuple[str, int, str]]:
    """Points at which samples failed or flipped: the point, how many, and the first reason."""
    try:
        listed: list[tuple[str, int, str]] = [
            (str(point), int(index), str(text))
            for point, index, text in json.loads(str(run.surrogate.provenance.get("failures", "[]")))
        ]
    except (ValueError, TypeError):
        return [("failures", 0, "the list in the file cannot be read")]
    points = dict.fromkeys(point for point, _, _ in listed)
    by_point = {point: [text for place, _, text in listed if place == point] for point in points}
    return [(label(point, 80), len(found), label(found[0], 200)) for point, found in by_point.items()]


def _name(outcome: Outcome) -> str:
    return outcome.network


def _order(outcome: Outcome) -> tuple[object, ...]:
    mode = _MODES.index(outcome.mode) if outcome.mode in _MODES else len(_MODES)
    single_first = outcome.sensing != "single_ended"
    return (
        outcome.network, outcome.mode != "ideal", single_first, outcome.sensing, outcome.bits, outcome.levels_per, mode,
        outcome.mode, outcome.seed, outcome.accuracy.n,
    )  # fmt: skip


def _circuit(outcome: Outcome) -> tuple[str, str, str]:
    """Sensing, bits and seed, where the mode has them."""
    if outcome.mode == "ideal":
        return ("–", "–", "–")
    sensing = ", ".join(part for part in (sensing_name(outcome.sensing), levels_name(outcome)) if part)
    return (sensing, str(outcome.bits), str(outcome.seed) if outcome.mode != "nominal" else "–")


def _measured(outcome: Outcome, among: Sequence[Outcome]) -> tuple[str, str, str, str]:
    accuracy, lost = outcome.accuracy, loss(outcome, among)
    points = "–" if lost is None else f"{points_of(lost.value)} ({points_of(lost.low)} to {points_of(lost.high)})"
    interval = f"{100 * accuracy.low:.2f} to {100 * accuracy.high:.2f}"
    return (f"{100 * accuracy.value:.2f}", interval, points, f"{accuracy.n:,}")


def _rows_of(kept: KeptCalibration) -> list[list[Group]]:
    """Groups that share a row of the table."""
    groups_of: dict[str, list[Group]] = {}
    for group in kept.calibration.levels:
        groups_of.setdefault(group_name(group), []).append(group)
    rows: list[list[Group]] = []
    for groups in groups_of.values():
        rows += [groups] if len(groups) > _MOST_NUMBERS else [[group] for group in groups]
    return rows


def _level_row(surrogate: Surrogate, kept: KeptCalibration, groups: list[Group], codes: CodeTables) -> tuple[str, ...]:
    """Figures of some groups of one layer, each group weighted with its partial sums."""
    calibration = kept.calibration
    read = [group for group in groups if (kept.file, group) in codes]
    sums = np.zeros(4)  # Partial sums, those with the nominal code, and squared errors without and with variation.
    for group in read:
        levels, n_active, probability = calibration.levels[group], group[1], codes[kept.file, group]
        nominal = nominal_codes(surrogate, calibration.sensing, n_active, levels.reference_v)
        counts = np.arange(n_active + 1)
        squares = (levels.centroid_mac - (n_active - 2.0 * counts)[:, None]) ** 2
        about = (
            counts >= 0,
            probability[counts, nominal],
            squares[counts, nominal],
            (probability * squares).sum(axis=1),
        )
        sums += np.stack(about) @ levels.histogram
    share = sums[1:] / max(1, sums[0])
    return (
        f"{kept.network}: {group_name(groups[0])}",
        sensing_name(calibration.sensing),
        _from_to([group[1] for group in read or groups]),
        str(calibration.bits),
        f"{int(sums[0]):,}",
        *((f"{100 * share[0]:.1f}", *(f"{math.sqrt(each):.2f}" for each in share[1:])) if read else ("–", "–", "–")),
    )


def _from_to(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def _is_netlist(name: str) -> bool:
    return name.startswith("netlist_") and not name.endswith("_sha256")


def _is_long(name: str) -> bool:
    return name in ("recipe", "failures", "content_hash", "header_hash") or _is_netlist(name)


def _cut(text: str) -> str:
    if len(text) <= MOST_TEXT:
        return text
    return text[:MOST_TEXT] + f"\n… {len(text) - MOST_TEXT:,} more characters are in the file"
