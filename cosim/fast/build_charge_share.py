"""Builds the fast column of lines that share charge: full columns with chosen shifts give every constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8

from cosim.circuit.capacitor import CapacitorDevice
from cosim.circuit.column import ColumnBench
from cosim.errors import MeasuredWorseError
from cosim.fast.bank import STATES
from cosim.fast.capacitance import fitted_capacitance_f
from cosim.fast.charge_share import PRODUCTS, ChargeShareColumn, Sharing, bent, powers, shares, unit_f
from cosim.fast.draws import Columns, simulate_columns
from cosim.spice.engine import Engine

MIXES = (
    *((1.0, 0.0), (0.0, 1.0), (0.75, 0.25), (0.25, 0.75), (0.5, 0.5)),
    *((0.88, 0.12), (0.12, 0.88), (0.95, 0.05), (0.05, 0.95)),
)
MIXES_OFF = ((0.5, 0.0), (0.0, 0.5), (0.25, 0.25), (0.0, 0.0))
"""Shares of the rows of product -1 and +1 in the columns without shifts; the others are off."""

ORDERS = 4
"""Highest power of a threshold shift."""

_SHIFTED = (4, 2, 3)
"""The mixes in which rows of product -1 and +1 are shifted; thresholds in the first alone, capacitors in all."""

_SHIFTED_OFF = (len(MIXES) + 2,)
"""Those in which rows that are off are."""

_CAPACITOR_SIGMAS = 3.0

_FEW_ROWS = 16
"""Rows of the columns that show what thresholds do: quick, and each row shows more."""

_MATTERS = 0.01
"""A device with less than this share of the strongest one's effect is left out: it is below the simulator's error."""

_BENDS = 0.03
"""One whose rows moved half each way do less than this share has its first power alone, for the same reason."""

_POWERS, _ROUNDS = 4, 6
"""Powers of the bend, from the square; and rounds of its fit."""


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Columns to simulate."""

    products: Int8[np.ndarray, "column row"]
    shift: Float[np.ndarray, "column row device"]


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """The closed form without thresholds' effects: C_p, (dV, q) by product, the bend, and the errors left."""

    parasitic_f: float
    step_v: np.ndarray
    charge_c: np.ndarray
    bend: np.ndarray
    error_v: np.ndarray

    def above_v(self, columns: Columns, cell_f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Volts above the reset level, and the total capacitance in farads."""
        capacitance_f, rows = shares(columns.products, columns.vth_shift_v, cell_f)
        total_f = capacitance_f.sum(axis=1) + self.parasitic_f
        linear_v = (capacitance_f @ self.step_v + rows @ self.charge_c) / total_f
        return bent(linear_v, self.bend), total_f


def build_charge_share(bench: ColumnBench, engine: Engine, *, seed: int = 0, cells: int = 0) -> ChargeShareColumn:
    """A fast column of a bench whose cells share their charge with the line; there is no bank, and nothing is drawn.

    Args:
        bench: The column.
        engine: What runs it.
        seed: Kept beside the constants; the columns do not depend on it.
        cells: Not used: there is no bank.

    Raises:
        MeasuredWorseError: The full columns gave no values, or cells flipped.
    """
    del cells
    cell_f = _nominal_f(bench)
    columns = _simulated(bench, engine, _line_plan(bench, cell_f))
    line = _line(columns, bench, cell_f)
    effect = _effect(bench, engine, cell_f)
    impossible = tuple(state for state in STATES if state[0] * state[1] not in bench.cell.drive)
    constants = line.parasitic_f, line.charge_c, line.step_v, line.bend, effect
    sharing = Sharing(bench.rows, _reset_v(bench), cell_f, *constants, impossible)
    about = {
        "cell": bench.cell.name,
        "process": bench.process.name,
        "corner": str(bench.corner),
        "seed": seed,
        "fit_columns": len(columns.products),
        "fit_rms_v": float(np.sqrt((line.error_v**2).mean())),
    }
    return ChargeShareColumn(sharing, about)


def _effect(bench: ColumnBench, engine: Engine, cell_f: np.ndarray) -> Float[np.ndarray, "order product device"]:
    """What threshold shifts do, from columns of few rows where the capacitance of a row is known."""
    span = bench.cell.ranges.rows
    rows = max(_FEW_ROWS, int(span[0]) if span else 1) if cell_f.any() else bench.rows
    few = dataclasses.replace(bench, rows=min(bench.rows, rows))
    line = _line(_simulated(few, engine, _line_plan(few, cell_f)), few, cell_f)
    devices = np.flatnonzero(cell_f == 0).tolist()
    once = _simulated(few, engine, _threshold_plan(few, devices, 1.0))
    moved_v = np.abs(_unexplained_v(once, line, few, cell_f))
    about = np.abs(once.vth_shift_v).max(axis=1) > 0
    largest_v = np.array([moved_v[about[:, device]].max(initial=0.0) for device in devices])
    strong = [device for device, value in zip(devices, largest_v, strict=True) if value > _MATTERS * largest_v.max()]
    twice = _simulated(few, engine, _threshold_plan(few, strong, 2.0))
    moved_v, size_v = np.abs(_unexplained_v(twice, line, few, cell_f)), np.abs(twice.vth_shift_v).sum(axis=1)
    halves = (size_v > 0) & (np.abs(twice.vth_shift_v.sum(axis=1)) < size_v / 2)
    bends = [device for device in strong if moved_v[halves[:, device]].max(initial=0.0) > _BENDS * largest_v.max()]
    orders = [(device, order) for device in strong for order in range(1, (ORDERS if device in bends else 1) + 1)]
    return _effects(_joined(once, twice), line, few, orders, cell_f)


def _effects(
    columns: Columns, line: _Line, bench: ColumnBench, orders: Sequence[tuple[int, int]], cell_f: np.ndarray
) -> Float[np.ndarray, "order product device"]:
    """Least squares of what the line without thresholds does not explain, by (device, order); 0 for the others."""
    effect = np.zeros((ORDERS, len(PRODUCTS), cell_f.size))
    if not orders:
        return effect
    total_f = line.above_v(columns, cell_f)[1]
    sums = {order: powers(columns.products, columns.vth_shift_v, order) for order in range(1, ORDERS + 1)}
    features = np.concatenate([sums[order][:, :, device] for device, order in orders], axis=1)
    features *= unit_f(cell_f) / total_f[:, None]
    values = _least_squares(features, _unexplained_v(columns, line, bench, cell_f)).reshape(-1, len(PRODUCTS))
    for (device, order), value in zip(orders, values, strict=True):
        effect[order - 1, :, device] = value
    return effect


def _unexplained_v(columns: Columns, line: _Line, bench: ColumnBench, cell_f: np.ndarray) -> np.ndarray:
    return columns.voltage_v[:, 0, -1] - _reset_v(bench) - line.above_v(columns, cell_f)[0]


def _line_plan(bench: ColumnBench, cell_f: np.ndarray) -> _Plan:
    """Every mix without shifts, and capacitors of the rows of one product moved together, up and down."""
    sigma = bench.cell.vth_sigmas(bench.process)
    mixes = _mixes(bench)
    columns = [(products, np.zeros((bench.rows, sigma.size))) for products in mixes]
    for device in np.flatnonzero(cell_f).tolist():
        for index, value in _shifted(len(mixes), every=True):
            for sign in (1.0, -1.0):
                shift = np.zeros((bench.rows, sigma.size))
                shift[mixes[index] == value, device] = sign * _CAPACITOR_SIGMAS * sigma[device]
                columns.append((mixes[index], shift))
    return _plan(columns)


def _threshold_plan(bench: ColumnBench, devices: Sequence[int], sigmas: float) -> _Plan:
    """Thresholds of the rows of one product moved together, up and down, and half of them each way.

    Together they show the odd powers. Half each way leaves what a row does by itself: moved together, the even powers
    hold what the rows do to each other too, which independent shifts do not.
    """
    sigma = bench.cell.vth_sigmas(bench.process)
    mixes = _mixes(bench)
    halves = np.resize([1.0, 1.0, -1.0, -1.0], bench.rows)
    columns: list[tuple[np.ndarray, np.ndarray]] = []
    for device in devices:
        for index, value in _shifted(len(mixes), every=False):
            own = mixes[index] == value
            for pattern in (np.ones(bench.rows), -np.ones(bench.rows), halves):
                shift = np.zeros((bench.rows, sigma.size))
                shift[own, device] = sigmas * sigma[device] * pattern[own]
                columns.append((mixes[index], shift))
    return _plan(columns)


def _plan(columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Plan:
    return _Plan(np.array([products for products, _ in columns]), np.array([shift for _, shift in columns]))


def _mixes(bench: ColumnBench) -> list[Int8[np.ndarray, " row"]]:
    """The products of the columns; without a state for rows that are off, those of product -1 fill up."""
    found: list[np.ndarray] = []
    for minus, plus in MIXES + (MIXES_OFF if bench.cell.states(0) else ()):
        products = np.full(bench.rows, 0 if bench.cell.states(0) else -1, np.int8)
        products[: int(bench.rows * minus)] = -1
        products[bench.rows - int(bench.rows * plus) :] = 1
        found.append(products)
    return found


def _shifted(mixes: int, *, every: bool) -> list[tuple[int, int]]:
    """(mix, product) of the rows that are shifted."""
    pairs = [(index, value) for index in _SHIFTED[: None if every else 1] for value in (-1, 1)]
    return pairs + [(index, 0) for index in _SHIFTED_OFF if index < mixes]


def _simulated(bench: ColumnBench, engine: Engine, plan: _Plan) -> Columns:
    """The full columns that ran without a flipped cell; weights alternate where the cell has an input for them."""
    weights = np.resize(np.array([-1, 1], np.int8), plan.products.shape)
    weights = np.where(np.isin(plan.products * weights, list(bench.cell.drive)), weights, -weights).astype(np.int8)
    columns = simulate_columns(bench, engine, plan.products, weights, plan.shift)
    kept = columns.usable
    if kept.sum() < 0.75 * kept.size:
        hint = "another word_line_v or supply"
        raise MeasuredWorseError("too few full columns without flipped cells", place=str(bench.corner), hint=hint)
    return Columns(*(getattr(columns, each.name)[kept] for each in dataclasses.fields(Columns)))


def _joined(first: Columns, second: Columns) -> Columns:
    pairs = ((getattr(first, each.name), getattr(second, each.name)) for each in dataclasses.fields(Columns))
    return Columns(*(np.concatenate(pair) for pair in pairs))


def _line(columns: Columns, bench: ColumnBench, cell_f: np.ndarray) -> _Line:
    """The line's constants; C_p has the least error, as it shows in how the line follows the capacitors' deviations."""
    above_v = columns.voltage_v[:, 0, -1] - _reset_v(bench)
    capacitance_f, rows = shares(columns.products, columns.vth_shift_v, cell_f)

    def fitted(parasitic_f: float) -> _Line:
        return _line_at(parasitic_f, above_v, capacitance_f, rows, unit_f(cell_f))

    low_f = bench.c_bit_line_f
    if not cell_f.any():
        return fitted(low_f)
    high_f = max(float(capacitance_f.sum(axis=1).mean()), 2 * low_f)
    return fitted(fitted_capacitance_f(lambda value_f: fitted(value_f).error_v, low_f, high_f, 1e-4))


def _line_at(
    parasitic_f: float, above_v: np.ndarray, capacitance_f: np.ndarray, rows: np.ndarray, unit: float
) -> _Line:
    """The linear constants by least squares; the bend's powers are those of the straight part."""
    total_f = capacitance_f.sum(axis=1) + parasitic_f
    base = np.c_[capacitance_f, rows * unit] / total_f[:, None]
    linear_v, values, features = above_v, np.zeros(0), base
    for _ in range(_ROUNDS):
        features = np.c_[base, linear_v[:, None] ** np.arange(2, 2 + _POWERS)]
        values = _least_squares(features, above_v)
        linear_v = base @ values[:-_POWERS]
    step_v, charge, bend = np.split(values, (len(PRODUCTS), 2 * len(PRODUCTS)))
    return _Line(parasitic_f, step_v, charge * unit, bend, features @ values - above_v)


def _least_squares(
    features: Float[np.ndarray, "sample feature"], wanted: Float[np.ndarray, " sample"]
) -> Float[np.ndarray, " feature"]:
    """The shortest solution with all features on one scale; a feature that is 0 throughout gets 0."""
    scale = np.abs(features).max(axis=0)
    scale[scale == 0] = 1.0
    return np.linalg.lstsq(features / scale, wanted, rcond=1e-9)[0] / scale


def _reset_v(bench: ColumnBench) -> float:
    return bench.cell.precharge[bench.cell.ports.bit_lines[0]] * bench.corner.vdd_v


def _nominal_f(bench: ColumnBench) -> Float[np.ndarray, " device"]:
    cell = bench.cell
    return np.array([cell.parameters[d.value] if isinstance(d, CapacitorDevice) else 0.0 for d in cell.devices])
