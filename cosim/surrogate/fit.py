"""Samples to a surrogate: moments at each count, curves through them, and the error of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import skew as sample_skew

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES
from cosim.campaign.recipe import FEWEST_COUNTS
from cosim.errors import InputError
from cosim.surrogate.content import plain
from cosim.surrogate.curves import falling_curve, skew_curve, variance_curve
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate
from cosim.surrogate.operating import records_of
from cosim.surrogate.samples import (
    HELD_OUT,
    ColumnSamples,
    ComparatorSamples,
    Table,
    check_failures,
    column_samples,
    comparator_samples,
    fitted_active,
    held_out,
)
from cosim.surrogate.two_count import LEAST_SIGMA_V, TwoCountModel
from cosim.surrogate.two_count_fit import Powers, choose_powers, fit_two_count, groups_of
from cosim.surrogate.validate import validate, validate_comparator

__all__ = ["HELD_OUT", "ColumnSamples", "ComparatorSamples", "fit", "fit_comparator", "fit_line"]

Provenance = Mapping[str, str | int | float]

FEWEST_SAMPLES = 8
"""Good samples at a point without which its sigma would be a guess."""

BOOTSTRAPS = 200


def fit(samples: Path, *, max_failure_rate: float = 0.01) -> Surrogate | SurrogateFamily:
    """Fit and check a surrogate from a file of samples, or a folder with `samples.h5`; a family for several points.

    A point at which any sample flipped is masked: none of its samples are fitted or checked, and the validation
    figure `masked_points` says how many points there are of this kind. In a family, a whole operating point is.

    Args:
        max_failure_rate: The largest share of reads that failed or flipped at any point.

    Raises:
        MeasuredWorseError: More failed or flipped than `max_failure_rate`.
        InputError: The file is damaged, incomplete, of another type, of a column of one line, or has too few counts;
            or no such rate.
    """
    if not 0 <= max_failure_rate <= 1:
        raise InputError(f"max_failure_rate = {max_failure_rate:g}, expected 0 to 1")
    path = samples / "samples.h5" if samples.is_dir() else samples
    content = hdf5.read(path, filetype=SAMPLES[0], major=SAMPLES[1][0])
    table = {name: data.values for name, data in content.datasets.items()}
    provenance = plain(content.attributes)
    provenance["samples_sha256"] = hdf5.content_hash(content)
    try:
        records = records_of(provenance)
    except (ValueError, RecursionError) as error:
        raise InputError(f"incomplete samples: {error}", place=str(path)) from error
    if len(records) > 1:
        from cosim.surrogate.family_fit import fit_family  # Not above: it fits each point with this module.

        return fit_family(table, provenance, records, max_failure_rate=max_failure_rate, place=str(path))
    return fit_table(table, provenance, max_failure_rate=max_failure_rate, place=str(path))


def fit_table(
    table: Table, provenance: Provenance, *, max_failure_rate: float, place: str, powers: Powers | None = None
) -> Surrogate:
    """The surrogate of one operating point's samples; errors as `fit`, `place` is the file.

    Args:
        powers: The terms of a model in both counts; chosen by cross-validation where they are not given.
    """
    try:
        rows = int(provenance["rows"])
        check_failures(table, max_failure_rate, place)
        reads, masked = column_samples(table, rows)
        offsets = comparator_samples(table, provenance)
        active, off = fitted_active(provenance, rows)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"incomplete samples: {error}", place=place) from error
    try:
        return _fitted(_Reads(reads, rows, active, off, masked), offsets, provenance, powers)
    except InputError as error:
        raise InputError(error.message, place=error.place or place, hint=error.hint) from error


def powers_of(table: Table, provenance: Provenance, place: str) -> Powers | None:
    """The terms that cross-validation chooses for one operating point; None where one curve a line is fitted.

    Raises:
        InputError: Incomplete samples.
    """
    try:
        rows = int(provenance["rows"])
        active, off = fitted_active(provenance, rows)
        reads = _Reads(column_samples(table, rows)[0], rows, active, off, 0)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"incomplete samples: {error}", place=place) from error
    chosen = reads.reads.chosen(reads.to_fit & ~held_out(reads.reads))
    if not reads.in_both or not chosen.bl_v.size:
        return None
    return choose_powers(groups_of(chosen), rows)[0]


@dataclass(frozen=True, slots=True)
class _Reads:
    """The column's good reads, and which of them the recipe wants fitted."""

    reads: ColumnSamples
    rows: int
    active: tuple[int, ...]
    off: set[tuple[int, int]]
    masked: int

    @property
    def to_fit(self) -> Bool[np.ndarray, " read"]:
        """All but those that check the model alone."""
        return np.isin(self.reads.n_minus + self.reads.n_plus, self.active) & ~_in(self.reads, self.off)

    @property
    def in_both(self) -> bool:
        """Whether one curve in a line's own count would not do, or would leave reads unused."""
        return self.reads.lines == 1 or self.active != (self.rows,)


def _fitted(
    column: _Reads,
    offsets: Mapping[Sensing, tuple[str, ComparatorSamples]],
    provenance: Provenance,
    powers: Powers | None,
) -> Surrogate:
    """Fit everything to three quarters of the samples, and check it with the others."""
    reads, kept, to_fit = column.reads, held_out(column.reads), column.to_fit
    chosen, two_count = reads.chosen(to_fit & ~kept), None
    checks: dict[str, float] = {}
    if column.in_both:
        line, two_count, checks = fit_lines_in_both(chosen, column.rows, powers)
    else:
        line = fit_line(chosen, column.rows)
    comparators: dict[Sensing, ComparatorModel] = {
        sensing: fit_comparator(name, each.chosen(~held_out(each))) for sensing, (name, each) in offsets.items()
    }
    bare = Surrogate(line, comparators, {}, provenance, two_count)
    checks |= validate(bare, reads, kept, to_fit) | {"masked_points": float(column.masked)}
    for sensing, (_, each) in offsets.items():
        figures = validate_comparator(comparators[sensing], each.chosen(held_out(each)))
        checks |= {f"{sensing}_offset_{name}": value for name, value in figures.items()}
    return Surrogate(line, comparators, checks, provenance, two_count)


def fit_lines_in_both(
    reads: ColumnSamples, rows: int, powers: Powers | None = None
) -> tuple[LineModel, TwoCountModel, dict[str, float]]:
    """A model in both counts, its curve with all rows on with bootstrap errors, and its cross-validated errors.

    Raises:
        InputError: No reads with all rows on, too few different counts, or too few samples at one.
    """
    groups = groups_of(reads)
    _check_sizes(groups.volts, "column samples at a count")
    if not (groups.own + groups.other == rows).any():
        raise InputError(f"no reads with all {rows} rows on", hint=f"add {rows} to column.active_rows")
    _check_counts(np.unique(groups.own).size)
    powers, figures = choose_powers(groups, rows, powers)
    model = fit_two_count(groups, powers, rows, reads.lines)
    generator, count = np.random.default_rng(0), np.arange(rows + 1.0)

    def all_on(found: TwoCountModel) -> np.ndarray:
        moments = found.at(count, rows - count)
        return np.array([moments.mean_v, moments.sigma_v, moments.skew])

    again = np.array([
        all_on(fit_two_count(groups.resampled(generator), powers, rows, reads.lines)) for _ in range(BOOTSTRAPS)
    ])  # fmt: skip
    return LineModel(*all_on(model), *again.std(axis=0, ddof=1)), model, figures


def fit_line(reads: ColumnSamples, rows: int) -> LineModel:
    """The line model of all-rows-on reads, with bootstrap errors (fixed seed: the fit is a pure function).

    BL at `n_minus` and BLB at `n_plus` are samples of the same curve.

    Raises:
        InputError: Too few different counts, or too few samples at one.
    """
    count = np.concatenate([reads.n_minus, reads.n_plus])
    volts = np.concatenate([reads.bl_v, reads.blb_v])
    groups = {n: volts[count == n] for n in np.unique(count)}
    _check_sizes(groups.values(), "column samples at a count")
    _check_counts(len(groups))
    curves = _curves(groups, rows)
    generator = np.random.default_rng(0)
    again = np.array([_curves(_resampled(groups, generator), rows) for _ in range(BOOTSTRAPS)])
    errors = again.std(axis=0, ddof=1)
    return LineModel(*curves, *errors)


def fit_comparator(name: str, offsets: ComparatorSamples) -> ComparatorModel:
    """The moments of a comparator's offsets at each level, and at each common mode where there are several.

    Raises:
        InputError: Too few offsets at a level.
    """
    levels, modes = np.unique(offsets.level_v), np.unique(offsets.common_mode_v)  # not a number counts once
    several = modes.size > 1
    groups = [
        offsets.offset_v[(offsets.level_v == level) & ((offsets.common_mode_v == mode) | (not several))]
        for level in levels
        for mode in modes
    ]
    _check_sizes(groups, f"offsets of {name} at a level" + (" and common mode" if several else ""))
    shape = (levels.size, modes.size) if several else (levels.size,)
    sigma_v = np.maximum([group.std(ddof=1) for group in groups], LEAST_SIGMA_V)
    return ComparatorModel(
        amplifier=name,
        level_v=levels,
        offset_mean_v=np.reshape([group.mean() for group in groups], shape),
        offset_sigma_v=np.reshape(sigma_v, shape),
        offset_skew=np.reshape([_shrunk_skew(group) for group in groups], shape),
        sigma_error_v=np.reshape(sigma_v / np.sqrt([2 * (group.size - 1) for group in groups]), shape),
        samples=min(group.size for group in groups),
        common_mode_v=modes[np.isfinite(modes)],
    )


def _shrunk_skew(values: Float[np.ndarray, " sample"]) -> float:
    """The skewness times 1 - (error / skewness)^2, the share that is not noise; 0 within its standard error.

    The error is sqrt(6 / n), that of samples of a normal distribution; the factor is James and Stein's for one value.
    """
    if values.std() <= LEAST_SIGMA_V:
        return 0.0
    skew = float(sample_skew(values, bias=False))
    return skew * max(0.0, 1 - 6 / values.size / skew**2) if skew else 0.0


def _curves(groups: Mapping[float, Float[np.ndarray, " sample"]], rows: int) -> Float[np.ndarray, "moment count"]:
    count = np.array(list(groups))
    samples = np.array([values.size for values in groups.values()])
    mean_v = np.array([values.mean() for values in groups.values()])
    variance = np.array([values.var(ddof=1) for values in groups.values()])
    variance = np.maximum(variance, LEAST_SIGMA_V**2)
    skew = np.array(
        [sample_skew(values, bias=False) if values.std() > LEAST_SIGMA_V else 0.0 for values in groups.values()]
    )
    sigma_v = np.sqrt(variance_curve(count, variance, samples, rows))
    error_v = np.maximum(sigma_v[count.astype(int)], LEAST_SIGMA_V) / np.sqrt(samples)
    mean = falling_curve(count, mean_v, error_v, rows)
    return np.array([mean, sigma_v, skew_curve(count, skew, samples, rows)])


def _resampled(
    groups: Mapping[float, Float[np.ndarray, " sample"]], generator: np.random.Generator
) -> dict[float, Float[np.ndarray, " sample"]]:
    return {count: generator.choice(values, values.size) for count, values in groups.items()}


def _in(reads: ColumnSamples, pairs: set[tuple[int, int]]) -> Bool[np.ndarray, " read"]:
    found = np.zeros(reads.n_minus.size, bool)
    for minus, plus in pairs:
        found |= (reads.n_minus == minus) & (reads.n_plus == plus)
    return found


def _check_counts(different: int) -> None:
    if different < FEWEST_COUNTS:
        raise InputError(
            f"{different} different counts, expected at least {FEWEST_COUNTS}", hint="add counts to column.n_minus"
        )


def _check_sizes(groups: Iterable[Float[np.ndarray, "_"]], what: str) -> None:
    fewest = min((group.size for group in groups), default=0)
    if fewest < FEWEST_SAMPLES:
        raise InputError(f"{fewest} {what}, expected at least {FEWEST_SAMPLES}", hint="raise samples in the recipe")
