"""Readouts of one layer as the kernels look them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64, UInt16, UInt64

from cosim.network.alias import alias_entries
from cosim.network.cumulative import COUNTS_MAX, NEVER, THRESHOLDS, compares, cumulative_thresholds, table_entries
from cosim.network.kernels import STAIRS
from cosim.network.mapping import Mapping as RowMapping
from cosim.network.packing import aligned
from cosim.network.readout import Readout
from cosim.network.threshold_kernels import can_be_wide

OFF = -1
"""In place of a table: a sub-array without active rows, which is not read."""

_STAIRS_MAX = 3 * STAIRS  # From there on looking up is faster than comparing.
_NEVER = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Stairs:
    """Nominal centroids as steps over the count, padded with steps that are never reached.

    Attributes:
        bottom: Centroid at count 0, (table,).
        step: From which count on, (table, stair).
        rise: By how much the centroid is higher, (table, stair).
    """

    bottom: Int32[np.ndarray, " table"]
    step: Int32[np.ndarray, "table stair"]
    rise: Int32[np.ndarray, "table stair"]


@dataclass(frozen=True, slots=True, eq=False)
class Nominal:
    """Readouts without variation.

    Attributes:
        centroid: Centroid of the nominal code, (entry,); an entry is the start of a table plus the count.
        stairs: The same as steps, where they are few.
    """

    centroid: Int32[np.ndarray, " entry"]
    stairs: Stairs | None


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """Readouts as cumulative probabilities, see `cosim.network.cumulative`: for wide vectors, or for any processor.

    Attributes:
        wide: Entries as `table_entries` lays them out, (table, entry).
        by_count: Thresholds, (table, count, 8).
        centroid: Of each code, (table, 8).
    """

    wide: UInt16[np.ndarray, "table entry"] | None = None
    by_count: UInt16[np.ndarray, "table count eight"] | None = None
    centroid: Int32[np.ndarray, "table eight"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ReadTables:
    """One layer's readouts, for one mode.

    Attributes:
        start: Where the table of a number of active rows begins if all lie one after the other, (n_active,); `OFF`
            for 0, which is not read, and for those that do not occur.
        table: The number of that table, or `OFF`, (n_active,).
        fraction_bits: Position of the binary point of every centroid.
        nominal: For mode nominal.
        alias: For mode iid with many codes or rows: alias slots, (entry, slot); see `cosim.network.alias`.
        thresholds: For mode iid otherwise.
    """

    start: Int64[np.ndarray, " n_active"]
    table: Int64[np.ndarray, " n_active"]
    fraction_bits: int
    nominal: Nominal | None = None
    alias: UInt64[np.ndarray, "entry slot"] | None = None
    thresholds: Thresholds | None = None


def read_tables(by_n_active: Mapping[int, Readout], mapping: RowMapping, mode: Literal["nominal", "iid"]) -> ReadTables:
    """The kernels' tables of one layer; the readouts have passed `check_readouts`."""
    kinds = [by_n_active[n] for n in mapping.kinds]
    common = table_starts(mapping), table_numbers(mapping), kinds[0].fraction_bits
    if mode == "nominal":
        nominal = [readout.centroid[readout.nominal].astype(np.int32) for readout in kinds]
        return ReadTables(*common, nominal=Nominal(np.concatenate(nominal), _stairs(nominal)))
    codes = max(readout.codes for readout in kinds)
    if compares(mapping.rows, codes):
        return ReadTables(*common, thresholds=_thresholds(kinds, wide=can_be_wide()))
    return ReadTables(*common, alias=np.concatenate([alias_entries(r.probability, r.centroid, codes) for r in kinds]))


def _thresholds(kinds: list[Readout], *, wide: bool) -> Thresholds:
    if wide:
        entries = [table_entries(r.probability, r.centroid) for r in kinds]
        lined_up = aligned((len(entries), len(entries[0])), np.uint16)
        lined_up[:] = entries
        return Thresholds(wide=lined_up)
    by_count = np.full((len(kinds), COUNTS_MAX, THRESHOLDS + 1), NEVER, np.uint16)
    centroid = np.zeros((len(kinds), THRESHOLDS + 1), np.int32)
    for table, readout in enumerate(kinds):
        by_count[table, : readout.n_active + 1, :THRESHOLDS] = cumulative_thresholds(readout.probability)
        centroid[table, : readout.codes] = readout.centroid
    return Thresholds(by_count=by_count, centroid=centroid)


def table_starts(mapping: RowMapping) -> Int64[np.ndarray, " n_active"]:
    """Where the table of a number of active rows begins if all lie one after the other; `OFF` where there is none."""
    return _by_n_active(mapping, np.cumsum([0] + [n + 1 for n in mapping.kinds])[:-1])


def table_numbers(mapping: RowMapping) -> Int64[np.ndarray, " n_active"]:
    """The number of the table of a number of active rows; `OFF` where there is none."""
    return _by_n_active(mapping, np.arange(len(mapping.kinds)))


def _by_n_active(mapping: RowMapping, values: Int64[np.ndarray, " table"]) -> Int64[np.ndarray, " n_active"]:
    found = np.full(mapping.rows + 1, OFF, np.int64)
    found[list(mapping.kinds)] = values
    return found


def _stairs(nominal: list[Int32[np.ndarray, " count"]]) -> Stairs | None:
    steps = [np.flatnonzero(np.diff(values)) + 1 for values in nominal]
    most = max(1, *(len(each) for each in steps))
    if most > _STAIRS_MAX:
        return None
    step = np.full((len(nominal), -(-most // STAIRS) * STAIRS), _NEVER, np.int32)
    rise = np.zeros(step.shape, np.int32)
    for table, (values, at) in enumerate(zip(nominal, steps, strict=True)):
        step[table, : len(at)] = at
        rise[table, : len(at)] = np.diff(values)[at - 1]
    return Stairs(np.array([values[0] for values in nominal], np.int32), step, rise)
