"""What one layer's reads are made from, as the tensors that its state holds.

A read is looked up by its entry: the start of its number of active rows plus its count of products -1. The last entry
is a sub-array without active rows, which gives 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int16, UInt64
from torch import Tensor

from cosim.errors import InputError
from cosim.network.alias import alias_entries
from cosim.network.readout import Readout
from cosim.surrogate.adc import transfer
from cosim.surrogate.calibration import Calibration, Levels
from cosim.surrogate.codes import Mlsa
from cosim.surrogate.model import Moments, Surrogate

TABLES: Mapping[str, tuple[torch.dtype, int]] = {
    "start": (torch.int64, 1),
    "nominal": (torch.int32, 1),
    "share": (torch.float32, 2),
    "pair": (torch.int32, 3),
    "table": (torch.int64, 1),
    "centroid": (torch.int32, 2),
    "line_v": (torch.float32, 2),
    "reference_v": (torch.float32, 2),
    "offset_v": (torch.float32, 3),
    "noise_v": (torch.float32, 0),
    "fraction_bits": (torch.int64, 0),
    "direction": (torch.int64, 0),
    "one_draw": (torch.int64, 0),
}
"""Type and number of axes of each:

- start: first entry of each number of active rows from 0 to all, -1 where it was not calibrated, (n_active,)
- nominal: centroid of the nominal code, (entry,)
- share: of an alias slot that is its own code's (see `cosim.network.alias`), (entry, slot)
- pair: centroid of the alias, then of the slot's own code, (entry, slot, two)
- table: number of the levels that an entry is read with, (entry,)
- centroid: of each code, 0 beyond the last, (table, code)
- line_v: mean and sigma in volts and skewness of what is sensed, (entry, moment)
- reference_v: in volts; out of reach beyond the last, (table, reference)
- offset_v: a comparator's mean and sigma in volts and skewness, (table or entry, reference, moment)
- noise_v: sigma of a stated converter's noise, 0 for a sense amplifier
- fraction_bits: position of the binary point of centroids
- direction: +1 where the sensed voltage rises with the partial sum, else -1
- one_draw: 1 where one comparator or converter makes all decisions of a read, else 0
"""


def empty_state() -> dict[str, Tensor]:
    """The tensors of a layer that is not calibrated: without any values."""
    return {name: torch.zeros((0,) * max(axes, 1), dtype=dtype) for name, (dtype, axes) in TABLES.items()}


def read_state(
    surrogate: Surrogate, calibration: Calibration, mlsa: Mlsa, layer: str, readouts: Mapping[int, Readout]
) -> dict[str, Tensor]:
    """The tensors of one layer.

    Args:
        readouts: Those of `cosim.network.sensing.readouts_of` for this layer, by number of active rows.
    """
    kinds = sorted(readouts)
    levels = {n: calibration.levels[layer, n] for n in kinds}
    start = np.full(surrogate.rows + 1, -1)
    edges = np.cumsum([0] + [n + 1 for n in kinds])
    start[kinds], start[0] = edges[:-1], edges[-1]
    codes = max(each.codes for each in readouts.values())
    alias = np.concatenate([alias_entries(readouts[n].probability, readouts[n].centroid, codes) for n in kinds])
    centroid = [np.pad(readouts[n].centroid, (0, codes - readouts[n].codes)) for n in kinds]
    found: dict[str, np.ndarray] = {
        "start": start,
        "nominal": np.concatenate([*(readouts[n].centroid[readouts[n].nominal] for n in kinds), [0]]),
        "share": np.pad((alias & np.uint64(2**32 - 1)) / 2.0**32, ((0, 1), (0, 0))),
        "pair": np.pad(np.stack([_half(alias, 48), _half(alias, 32)], axis=-1), ((0, 1), (0, 0), (0, 0))),
        "table": np.append(np.repeat(np.arange(len(kinds)), [n + 1 for n in kinds]), len(kinds)),
        "centroid": np.stack([*centroid, np.zeros(codes)]),
        "fraction_bits": np.array(readouts[kinds[0]].fraction_bits),
        "direction": np.array(surrogate.direction),
        "one_draw": np.array(int(mlsa == "sequential" or calibration.adc is not None)),
    } | _voltages(surrogate, calibration, levels, codes - 1)
    return {name: torch.from_numpy(np.array(found[name])).to(dtype) for name, (dtype, _) in TABLES.items()}


def check_state(state: Mapping[str, Tensor], rows: int) -> None:
    """Refuse tensors of a state that do not fit each other, or sub-arrays of other rows; none at all is fine.

    Raises:
        InputError: Naming the tensor.
    """
    for name, (dtype, axes) in TABLES.items():
        if state[name].dtype != dtype or state[name].ndim != axes:
            if all(not state[each].numel() for each in TABLES):
                return
            raise InputError(
                f"the state's {name} must be {dtype} with {axes} axes, "
                f"got {state[name].dtype} of shape {tuple(state[name].shape)}"
            )
    if len(state["start"]) != rows + 1:
        raise InputError(f"the state is of sub-arrays of {len(state['start']) - 1} rows, these have {rows}")
    entries, tables = len(state["nominal"]), len(state["centroid"])
    references = state["centroid"].shape[1] - 1
    expected = {"share": entries, "pair": entries, "table": entries, "line_v": entries, "reference_v": tables}
    wrong = [name for name, size in expected.items() if len(state[name]) != size]
    if state["offset_v"].shape[1:] != (references, 3) or len(state["offset_v"]) not in (tables, entries):
        wrong.append("offset_v")
    inside = all(bool(((each >= -1) & (each < size)).all()) for each, size in _indices(state, entries, tables))
    if state["pair"].shape[1:] != (*state["share"].shape[1:], 2):
        wrong.append("pair")
    if wrong or not inside or state["line_v"].shape[1] != 3 or state["reference_v"].shape[1] != references:
        raise InputError(f"the state's tables do not fit each other: {', '.join(wrong) or 'start, table or line_v'}")


def check_frozen(state: Mapping[str, Tensor], expected: tuple[int, int], modes: Sequence[str]) -> None:
    """Refuse frozen offsets and a mode of a state that do not fit a layer and each other.

    Args:
        state: Its tables, `frozen` and `mode_number`.
        expected: The layer's sub-arrays and columns.
        modes: The modes in the order of their numbers.

    Raises:
        InputError: Saying what was expected.
    """
    frozen, mode, references = state["frozen"], state["mode_number"], state["centroid"].shape[-1] - 1
    if frozen.numel() and tuple(frozen.shape[:2]) != expected:
        raise InputError(f"frozen offsets of shape {tuple(frozen.shape)}, not {expected} first")
    if frozen.numel() and frozen.shape[2:] not in ((1,), (references,)):
        got = f"got {tuple(frozen.shape)}"
        raise InputError(f"frozen offsets must be one a column, or one for each of {references} references, {got}")
    if mode.ndim or not 0 <= int(mode) < len(modes):
        raise InputError(f"the state's mode must be one number from 0 to {len(modes) - 1}")
    if modes[int(mode)] == "frozen_offsets" and not frozen.numel():
        raise InputError("the state's mode is frozen_offsets, but it has no offsets")


def _indices(state: Mapping[str, Tensor], entries: int, tables: int) -> list[tuple[Tensor, int]]:
    """Tensors of numbers, and what they must be below."""
    counts = torch.arange(len(state["start"]), device=state["start"].device)
    used = state["start"] >= 0
    ends = torch.where(used, state["start"] + counts, 0)
    return [(ends, entries), (state["start"], entries), (state["table"], tables)]


def _voltages(
    surrogate: Surrogate, calibration: Calibration, levels: Mapping[int, Levels], references: int
) -> dict[str, np.ndarray]:
    """What mode frozen_offsets needs: the sensed voltage, references and offsets, with the entry of no active rows."""
    lines = [_line(surrogate, calibration, n) for n in levels]
    out_of_reach = surrogate.direction * np.inf
    reference = np.full((len(levels) + 1, references), out_of_reach)
    offsets: list[np.ndarray] = []
    for table, (n, each) in enumerate(levels.items()):
        reference[table, : each.reference_v.size] = each.reference_v
        moments = _offset(surrogate, calibration, n, each.reference_v)
        offsets.append(np.pad(moments, ((0, 0), (0, references - moments.shape[1]), (0, 0))))
    noise_v = 0.0 if calibration.adc is None else abs(_mac_v(surrogate)) * calibration.adc.noise_sigma_mac
    return {
        "line_v": np.concatenate([*lines, np.zeros((1, 3))]),
        "reference_v": reference,
        "offset_v": np.concatenate([*offsets, np.zeros((1, references, 3))]),
        "noise_v": np.array(noise_v),
    }


def _half(alias: UInt64[np.ndarray, "entry slot"], shift: int) -> Int16[np.ndarray, "entry slot"]:
    """One of the two centroids of an alias slot."""
    return (alias >> np.uint64(shift)).astype(np.uint16).view(np.int16)


def _line(surrogate: Surrogate, calibration: Calibration, n_active: int) -> Float64[np.ndarray, "count three"]:
    n_minus = np.arange(n_active + 1.0)
    return _stacked(surrogate.moments(calibration.sensing, n_minus, n_active - n_minus))


def _offset(
    surrogate: Surrogate, calibration: Calibration, n_active: int, reference_v: Float64[np.ndarray, " reference"]
) -> Float64[np.ndarray, "line reference three"]:
    """A comparator's offset at each reference: one line of a table, or one for each count if they depend on it."""
    if calibration.adc is not None:
        sigma_v = abs(_mac_v(surrogate)) * calibration.adc.offset_sigma_mac
        return np.tile([0.0, sigma_v, 0.0], (1, reference_v.size, 1))
    moments = _stacked(surrogate.offset(calibration.sensing, n_active, reference_v))
    return moments if moments.ndim == 3 else moments[None]


def _mac_v(surrogate: Surrogate) -> float:
    return transfer(surrogate, surrogate.rows).mac_v


def _stacked(moments: Moments) -> np.ndarray:
    return np.stack([moments.mean_v, moments.sigma_v, moments.skew], axis=-1).astype(np.float64)
