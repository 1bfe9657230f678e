"""Samples to a surrogate: moments at each count, curves through them, and the error of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES
from cosim.errors import InputError
from cosim.surrogate.comparator_fit import fit_comparator
from cosim.surrogate.comparator_gradient import Gradients, check_gradients, gradients_of
from cosim.surrogate.content import plain
from cosim.surrogate.family import SurrogateFamily
from cosim.surrogate.line_fit import fit_line, fit_lines_in_both
from cosim.surrogate.model import ComparatorModel, Sensing, Surrogate
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
from cosim.surrogate.two_count_fit import Powers, choose_powers, groups_of
from cosim.surrogate.validate import validate, validate_comparator

__all__ = ["HELD_OUT", "ColumnSamples", "ComparatorSamples", "fit", "fit_comparator", "fit_line"]

Provenance = Mapping[str, str | int | float]


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
    except (ValueError, OverflowError, RecursionError) as error:
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
        gradients = gradients_of(table, list(offsets))
        active, off = fitted_active(provenance, rows)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"incomplete samples: {error}", place=place) from error
    try:
        return _fitted(_Reads(reads, rows, active, off, masked), offsets, gradients, provenance, powers)
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
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
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
    gradients: Mapping[Sensing, Gradients],
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
        sensing: fit_comparator(name, each.chosen(~held_out(each)), gradients.get(sensing))
        for sensing, (name, each) in offsets.items()
    }
    bare = Surrogate(line, comparators, {}, provenance, two_count)
    checks |= validate(bare, reads, kept, to_fit) | {"masked_points": float(column.masked)}
    for sensing, (_, each) in offsets.items():
        figures = validate_comparator(comparators[sensing], each.chosen(held_out(each)))
        checks |= {f"{sensing}_offset_{name}": value for name, value in figures.items()}
        figures = check_gradients(gradients[sensing], each) if sensing in gradients else {}
        checks |= {f"{sensing}_sensitivity_{name}": value for name, value in figures.items()}
    return Surrogate(line, comparators, checks, provenance, two_count)


def _in(reads: ColumnSamples, pairs: set[tuple[int, int]]) -> Bool[np.ndarray, " read"]:
    found = np.zeros(reads.n_minus.size, bool)
    for minus, plus in pairs:
        found |= (reads.n_minus == minus) & (reads.n_plus == plus)
    return found
