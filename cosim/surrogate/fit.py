"""Samples to a surrogate: moments at each count, curves through them, and the error of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import skew as sample_skew

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES, STATUS
from cosim.campaign.recipe import FEWEST_COUNTS
from cosim.errors import InputError, MeasuredWorseError
from cosim.surrogate.curves import falling_curve, skew_curve, variance_curve
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate
from cosim.surrogate.validate import validate, validate_comparator

HELD_OUT = 4
"""Every fourth sample checks the fit and takes no part in it."""

FEWEST_SAMPLES = 8
"""Good samples at a point without which its sigma would be a guess."""

BOOTSTRAPS = 200
_LEAST_SIGMA_V = 20e-6
"""Spreads below this are the simulator's tolerance, not physics."""


@dataclass(frozen=True, slots=True)
class ColumnSamples:
    """Good column samples: voltages with the counts they were read at and the sample's index."""

    n_minus: Float[np.ndarray, " read"]
    n_plus: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    bl_v: Float[np.ndarray, " read"]
    blb_v: Float[np.ndarray, " read"]

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ColumnSamples:
        """The reads where the mask is set."""
        return ColumnSamples(*(getattr(self, name)[mask] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class ComparatorSamples:
    """Good offsets of one comparator, with their levels and the sample's index."""

    level_v: Float[np.ndarray, " read"]
    sample: Float[np.ndarray, " read"]
    offset_v: Float[np.ndarray, " read"]

    def chosen(self, mask: Bool[np.ndarray, " read"]) -> ComparatorSamples:
        """The offsets where the mask is set."""
        return ComparatorSamples(*(getattr(self, name)[mask] for name in self.__slots__))


def fit(samples: Path, *, max_failure_rate: float = 0.01) -> Surrogate:
    """Fit and check a surrogate from a file of samples, or a folder with `samples.h5`.

    A point at which any sample flipped is masked: none of its samples are fitted or checked, and the validation
    figure `masked_points` says how many points there are of this kind.

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
    try:
        rows = int(cast(int, content.attributes["rows"]))
        _check_failures(table, max_failure_rate, str(path))
        reads, masked = _column_samples(table, rows)
        offsets = _comparator_samples(table, content.attributes)
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise InputError(f"incomplete samples: {error}", place=str(path)) from error
    if not np.isfinite(reads.blb_v).all():
        raise InputError(
            "a column of one line: this version fits lines that only the rows of one sign pull",
            place=str(path),
            hint="the samples themselves are in the file",
        )
    all_on = reads.n_minus + reads.n_plus == rows
    held_out = _held_out(reads)
    line = fit_line(reads.chosen(all_on & ~held_out), rows)
    comparators: dict[Sensing, ComparatorModel] = {
        sensing: fit_comparator(name, each.chosen(~_held_out(each))) for sensing, (name, each) in offsets.items()
    }
    provenance = {name: value for name, value in content.attributes.items() if isinstance(value, str | int | float)}
    provenance["samples_sha256"] = hdf5.content_hash(content)
    bare = Surrogate(line, comparators, {}, provenance)
    checks = validate(bare, reads, held_out) | {"masked_points": float(masked)}
    for sensing, (_, each) in offsets.items():
        figures = validate_comparator(comparators[sensing], each.chosen(_held_out(each)))
        checks |= {f"{sensing}_offset_{name}": value for name, value in figures.items()}
    return Surrogate(line, comparators, checks, provenance)


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
    if len(groups) < FEWEST_COUNTS:
        raise InputError(
            f"{len(groups)} different counts, expected at least {FEWEST_COUNTS}", hint="add counts to column.n_minus"
        )
    curves = _curves(groups, rows)
    generator = np.random.default_rng(0)
    again = np.array([_curves(_resampled(groups, generator), rows) for _ in range(BOOTSTRAPS)])
    errors = again.std(axis=0, ddof=1)
    return LineModel(*curves, *errors)


def fit_comparator(name: str, offsets: ComparatorSamples) -> ComparatorModel:
    """The moments of a comparator's offsets at each level.

    Raises:
        InputError: Too few offsets at a level.
    """
    levels = np.unique(offsets.level_v)
    groups = [offsets.offset_v[offsets.level_v == level] for level in levels]
    _check_sizes(groups, f"offsets of {name} at a level")
    sigma_v = np.maximum([group.std(ddof=1) for group in groups], _LEAST_SIGMA_V)
    return ComparatorModel(
        amplifier=name,
        level_v=levels,
        offset_mean_v=np.array([group.mean() for group in groups]),
        offset_sigma_v=sigma_v,
        offset_skew=np.array([_shrunk_skew(group) for group in groups]),
        sigma_error_v=sigma_v / np.sqrt([2 * (group.size - 1) for group in groups]),
        samples=min(group.size for group in groups),
    )


def _shrunk_skew(values: Float[np.ndarray, " sample"]) -> float:
    """The skewness times 1 - (error / skewness)^2, the share that is not noise; 0 within its standard error.

    The error is sqrt(6 / n), that of samples of a normal distribution; the factor is James and Stein's for one value.
    """
    if values.std() <= _LEAST_SIGMA_V:
        return 0.0
    skew = float(sample_skew(values, bias=False))
    return skew * max(0.0, 1 - 6 / values.size / skew**2) if skew else 0.0


def _curves(groups: Mapping[float, Float[np.ndarray, " sample"]], rows: int) -> Float[np.ndarray, "moment count"]:
    count = np.array(list(groups))
    samples = np.array([values.size for values in groups.values()])
    mean_v = np.array([values.mean() for values in groups.values()])
    variance = np.array([values.var(ddof=1) for values in groups.values()])
    variance = np.maximum(variance, _LEAST_SIGMA_V**2)
    skew = np.array(
        [sample_skew(values, bias=False) if values.std() > _LEAST_SIGMA_V else 0.0 for values in groups.values()]
    )
    sigma_v = np.sqrt(variance_curve(count, variance, samples, rows))
    error_v = np.maximum(sigma_v[count.astype(int)], _LEAST_SIGMA_V) / np.sqrt(samples)
    mean = falling_curve(count, mean_v, error_v, rows)
    return np.array([mean, sigma_v, skew_curve(count, skew, samples, rows)])


def _resampled(
    groups: Mapping[float, Float[np.ndarray, " sample"]], generator: np.random.Generator
) -> dict[float, Float[np.ndarray, " sample"]]:
    return {count: generator.choice(values, values.size) for count, values in groups.items()}


def _held_out(reads: ColumnSamples | ComparatorSamples) -> Bool[np.ndarray, " read"]:
    return reads.sample % HELD_OUT == HELD_OUT - 1


def _column_samples(table: Mapping[str, np.ndarray], rows: int) -> tuple[ColumnSamples, int]:
    """The good samples of the points without a flip, and the number of the others."""
    status = table["column_status"]
    points, point = np.unique(
        np.stack([table["column_n_minus"], table["column_n_plus"]], axis=1), axis=0, return_inverse=True
    )
    masked = np.zeros(len(points), bool)
    masked[point[status == STATUS.index("flipped")]] = True
    good = (status == 0) & ~masked[point]
    names = ("n_minus", "n_plus", "sample", "bl_v", "blb_v")
    reads = ColumnSamples(*(table[f"column_{name}"][good].astype(float) for name in names))
    if (points < 0).any() or (points.sum(axis=1) > rows).any() or not np.isfinite(reads.bl_v).all():
        raise ValueError(f"counts that {rows} rows cannot have, or a good sample without a voltage")
    return reads, int(masked.sum())


def _comparator_samples(
    table: Mapping[str, np.ndarray], attributes: Mapping[str, object]
) -> dict[Sensing, tuple[str, ComparatorSamples]]:
    """Each comparator's name and good offsets, by its sensing."""
    names: list[str] = json.loads(str(attributes["amplifiers"]))
    sensings: list[Sensing] = json.loads(str(attributes["sensing"]))
    found: dict[Sensing, tuple[str, ComparatorSamples]] = {}
    for index, (name, sensing) in enumerate(zip(names, sensings, strict=True)):
        if sensing not in ("single_ended", "differential"):
            raise ValueError(f"sensing {sensing!r}")
        mine = (table["comparator_amplifier"] == index) & (table["comparator_status"] == 0)
        fields = (table[f"comparator_{each}"][mine].astype(float) for each in ("level_v", "sample", "offset_v"))
        found[sensing] = (str(name), ComparatorSamples(*fields))
    return found


def _check_sizes(groups: Iterable[Float[np.ndarray, " sample"]], what: str) -> None:
    fewest = min((group.size for group in groups), default=0)
    if fewest < FEWEST_SAMPLES:
        raise InputError(f"{fewest} {what}, expected at least {FEWEST_SAMPLES}", hint="raise samples in the recipe")


def _check_failures(table: Mapping[str, np.ndarray], most: float, place: str) -> None:
    """Refuse samples of which too many failed or flipped: what is left would be biased."""
    for kind, coordinates in (("column", ("n_minus", "n_plus")), ("comparator", ("amplifier", "level_v"))):
        if f"{kind}_status" not in table:
            continue
        bad = table[f"{kind}_status"] != 0
        where = np.stack([table[f"{kind}_{name}"].astype(float) for name in coordinates], axis=1)
        for point in np.unique(where, axis=0):
            at = (where == point).all(axis=1)
            if bad[at].mean() > most:
                named = ", ".join(f"{name} = {value:g}" for name, value in zip(coordinates, point, strict=True))
                raise MeasuredWorseError(
                    f"{int(bad[at].sum())} of {int(at.sum())} {kind} samples at {named} failed or flipped, "
                    f"expected at most {most:.1%}",
                    place=place,
                    hint="lower word_line_v or pulse_s, or widen range_v; `failures` in the file gives the reasons",
                )
