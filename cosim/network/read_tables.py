"""Readouts of one layer as the kernels look them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from cosim.network.alias import alias_entries
from cosim.network.kernels import STAIRS
from cosim.network.mapping import Mapping as RowMapping
from cosim.network.readout import Readout

OFF = -1
"""In place of a table: a sub-array without active rows, which is not read."""

_STAIRS_MAX = 3 * STAIRS  # From there on looking up is faster than comparing.
_NEVER = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Stairs:
    """Nominal centroids as steps over the count, padded with steps that are never reached.

    Attributes:
        table: Which table a sub-array takes, (kind, array).
        bottom: Sum of the centroids at count 0 over the sub-arrays, (kind,).
        step: From which count on, (table, stair).
        rise: By how much the centroid is higher, (table, stair).
    """

    table: Int64[np.ndarray, "kind array"]
    bottom: Int32[np.ndarray, " kind"]
    step: Int32[np.ndarray, "table stair"]
    rise: Int32[np.ndarray, "table stair"]


@dataclass(frozen=True, slots=True, eq=False)
class ReadTables:
    """One layer's readouts; an entry is the start of a sub-array's table plus the count.

    Attributes:
        start: Where the table of a sub-array begins, (kind, array); `OFF` for those that are not read.
        nominal: Centroid of the nominal code, (entry,).
        stairs: The same as steps, where they are few.
        alias: Alias slots of each count, (entry, slot); see `cosim.network.alias`.
        fraction_bits: Position of the binary point of every centroid.
    """

    start: Int64[np.ndarray, "kind array"]
    nominal: Int32[np.ndarray, " entry"]
    stairs: Stairs | None
    alias: UInt64[np.ndarray, "entry slot"]
    fraction_bits: int


def read_tables(by_n_active: Mapping[int, Readout], mapping: RowMapping) -> ReadTables:
    """The kernels' tables of one layer; the readouts have passed `check_readouts`."""
    kinds = [by_n_active[n] for n in mapping.kinds]
    codes = max(readout.codes for readout in kinds)
    nominal = [readout.centroid[readout.nominal].astype(np.int32) for readout in kinds]
    alias = np.concatenate([alias_entries(r.probability, r.centroid, codes) for r in kinds])
    return ReadTables(
        start=table_starts(mapping),
        nominal=np.concatenate(nominal),
        stairs=_stairs(nominal, mapping),
        alias=alias,
        fraction_bits=kinds[0].fraction_bits,
    )


def table_starts(mapping: RowMapping) -> Int64[np.ndarray, "kind array"]:
    """Where each sub-array's table begins if the tables of all numbers of active rows lie one after the other."""
    starts = np.cumsum([0] + [n + 1 for n in mapping.kinds])
    return np.where(mapping.n_active > 0, starts[_tables(mapping)], OFF)


def _tables(mapping: RowMapping) -> Int64[np.ndarray, "kind array"]:
    return np.searchsorted(np.array(mapping.kinds), mapping.n_active)


def _stairs(nominal: list[Int32[np.ndarray, " count"]], mapping: RowMapping) -> Stairs | None:
    steps = [np.flatnonzero(np.diff(values)) + 1 for values in nominal]
    most = max(1, *(len(each) for each in steps))
    if most > _STAIRS_MAX:
        return None
    step = np.full((len(nominal), -(-most // STAIRS) * STAIRS), _NEVER, np.int32)
    rise = np.zeros(step.shape, np.int32)
    for table, (values, at) in enumerate(zip(nominal, steps, strict=True)):
        step[table, : len(at)] = at
        rise[table, : len(at)] = np.diff(values)[at - 1]
    table = np.where(mapping.n_active > 0, _tables(mapping), OFF)
    first = np.array([values[0] for values in nominal] + [0])
    return Stairs(table, first[table].sum(axis=1).astype(np.int32), step, rise)
