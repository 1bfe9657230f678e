"""Builds the fast column of lines that share charge: a few full columns give every constant of the closed form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from cosim.circuit.capacitor import CapacitorDevice
from cosim.circuit.column import ColumnBench
from cosim.errors import MeasuredWorseError
from cosim.fast.bank import STATES
from cosim.fast.charge_share import ChargeShareColumn, Sharing, shares
from cosim.fast.draws import Columns, simulate
from cosim.spice.engine import Engine

FIT_SHARES = ((1.0, 0.0), (0.0, 1.0), (0.75, 0.25), (0.25, 0.75), (0.5, 0.5), (0.88, 0.12), (0.12, 0.88))
FIT_SHARES_OFF = ((0.5, 0.0), (0.0, 0.5), (0.25, 0.25), (0.0, 0.0))
"""Shares of the rows of product -1 and +1 in the columns of the fit; the others are off."""

TIMES, TIMES_OF_FEW = 2, 8
"""How often each is drawn; the second with few rows, where thresholds matter."""

_FEW_ROWS = 16

_ENOUGH_COUNTS = 2e-3
"""Rms of the fit without thresholds, in counts, below which they are left out."""

_PRIOR_V_V = 0.03, 0.01
"""How large the effect of a shift may be, volts a volt: in all rows alike, and what differs by product."""

_MATTERS = 0.2
"""A device with this share of the strongest one's effect has one by product; the others but one in all rows alike."""

_NOISE_V = 0.02e-3
"""What the full column's own error and second-order terms leave."""

_POWERS, _ROUNDS = 2, 5


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """What the fit needs of the full columns: volts above the reset level, and sums by product."""

    rows: int
    above_v: Float[np.ndarray, " sample"]
    capacitance_f: Float[np.ndarray, "sample product"]
    shift_f: Float[np.ndarray, "sample product device"]


@dataclass(frozen=True, slots=True)
class _Devices:
    """Devices whose shifts matter: in all rows alike, and by product."""

    alike: tuple[int, ...] = ()
    by_product: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Linear constants at one C_p: (dV by product, Q), (square, cube), effects, and the errors left."""

    base: np.ndarray
    bend: np.ndarray
    effect: np.ndarray
    error_v: np.ndarray


def build_charge_share(bench: ColumnBench, engine: Engine, *, seed: int = 0, cells: int = 0) -> ChargeShareColumn:
    """A fast column of a bench whose cells share their charge with the line; `cells` is not used, there is no bank.

    Raises:
        MeasuredWorseError: The full columns gave no values, or cells flipped.
    """
    del cells
    cell_f = _nominal_f(bench)
    columns = simulate(bench, engine, _counts(bench) * TIMES, seed=seed + 1)
    samples = _samples(columns, cell_f, bench)
    parasitic_f = _parasitic_f(samples, bench, _Devices())
    fit, effect = _fit(samples, parasitic_f, _Devices()), np.zeros((3, cell_f.size))
    if _rms(fit) > _ENOUGH_COUNTS * _count_v(samples, fit, parasitic_f):
        effect = _effect(bench, engine, cell_f, seed)
        samples = _without(samples, effect, parasitic_f)
        parasitic_f = _parasitic_f(samples, bench, _Devices())
        fit = _fit(samples, parasitic_f, _Devices())
    impossible = tuple(state for state in STATES if state[0] * state[1] not in bench.cell.drive)
    step_v, charge_c = fit.base[:3], float(fit.base[3])
    sharing = Sharing(bench.rows, _reset_v(bench), cell_f, parasitic_f, charge_c, step_v, fit.bend, effect, impossible)
    return ChargeShareColumn(sharing, _about(bench, columns, seed) | {"fit_rms_v": _rms(fit)})


def _counts(bench: ColumnBench) -> list[tuple[int, int]]:
    """Rows of product -1 and +1 in the columns of a fit."""
    shares_off = FIT_SHARES_OFF if bench.cell.states(0) else ()
    pairs = [(int(bench.rows * minus), int(bench.rows * plus)) for minus, plus in FIT_SHARES + shares_off]
    return pairs if shares_off else [(bench.rows - plus, plus) for _, plus in pairs]


def _effect(bench: ColumnBench, engine: Engine, cell_f: np.ndarray, seed: int) -> Float[np.ndarray, "product device"]:
    """The effects of threshold shifts, from columns of few rows: quick, and each row shows more."""
    span = bench.cell.ranges.rows
    rows = min(bench.rows, max(_FEW_ROWS, int(span[0]) if span else 1))
    few = dataclasses.replace(bench, rows=rows)
    columns = simulate(few, engine, _counts(few) * TIMES_OF_FEW, seed=seed + 2)
    samples = _samples(columns, cell_f, few)
    parasitic_f = _parasitic_f(samples, few, _Devices())
    devices = _strongest(samples, parasitic_f, tuple(np.flatnonzero(cell_f == 0).tolist()))
    return _fit(samples, _parasitic_f(samples, few, devices), devices).effect


def _without(samples: _Samples, effect: np.ndarray, parasitic_f: float) -> _Samples:
    """The samples without what threshold shifts did to them."""
    total_f = _total_f(samples, parasitic_f)
    effect_v = (samples.shift_f * effect).sum(axis=(1, 2)) / total_f
    return dataclasses.replace(samples, above_v=samples.above_v - effect_v)


def _count_v(samples: _Samples, fit: _Fit, parasitic_f: float) -> float:
    """A count in volts: one row of product +1 in the place of one of -1."""
    cell_f = samples.capacitance_f.sum(axis=1).mean() / samples.rows
    return float(abs(fit.base[2] - fit.base[0]) * cell_f / _total_f(samples, parasitic_f).mean())


def _reset_v(bench: ColumnBench) -> float:
    return bench.cell.precharge[bench.cell.ports.bit_lines[0]] * bench.corner.vdd_v


def _nominal_f(bench: ColumnBench) -> Float[np.ndarray, " device"]:
    cell = bench.cell
    return np.array([cell.parameters[d.value] if isinstance(d, CapacitorDevice) else 0.0 for d in cell.devices])


def _about(bench: ColumnBench, columns: Columns, seed: int) -> dict[str, str | int | float]:
    return {
        "cell": bench.cell.name,
        "process": bench.process.name,
        "corner": str(bench.corner),
        "seed": seed,
        "fit_columns": len(columns.products),
    }


def _samples(columns: Columns, cell_f: np.ndarray, bench: ColumnBench) -> _Samples:
    kept = columns.usable
    if kept.sum() < 0.75 * kept.size:
        hint = "another word_line_v or supply"
        raise MeasuredWorseError("too few full columns without flipped cells", place=str(bench.corner), hint=hint)
    capacitance_f, shift_f = shares(columns.products[kept], columns.vth_shift_v[kept], cell_f)
    return _Samples(bench.rows, columns.voltage_v[kept, 0, -1] - _reset_v(bench), capacitance_f, shift_f)


def _total_f(samples: _Samples, parasitic_f: float) -> np.ndarray:
    return samples.capacitance_f.sum(axis=1) + parasitic_f


def _rms(fit: _Fit) -> float:
    return float(np.sqrt((fit.error_v**2).mean()))


def _parasitic_f(samples: _Samples, bench: ColumnBench, devices: _Devices) -> float:
    """C_p with the least error; it shows in how the line follows the capacitors' deviations."""
    whole_f = float(samples.capacitance_f.sum(axis=1).mean())

    def error(logarithm: float) -> float:
        return float((_fit(samples, float(np.exp(logarithm)), devices).error_v ** 2).mean())

    low, high = np.log(bench.c_bit_line_f), np.log(max(whole_f, 2 * bench.c_bit_line_f))
    found = minimize_scalar(error, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def _strongest(samples: _Samples, parasitic_f: float, transistors: tuple[int, ...]) -> _Devices:
    """All transistors, and among them those with a strong effect."""
    effect = np.abs(_fit(samples, parasitic_f, _Devices(transistors)).effect).max(axis=0)
    return _Devices(transistors, tuple(np.flatnonzero(effect > _MATTERS * effect.max()).tolist()))


def _fit(samples: _Samples, parasitic_f: float, devices: _Devices) -> _Fit:
    """The linear constants by least squares; the bend's powers are those of the straight part."""
    total_f = _total_f(samples, parasitic_f)
    present = samples.capacitance_f.sum(axis=0) > 0
    unit_f = samples.capacitance_f.mean()
    base = np.c_[samples.capacitance_f[:, present], np.full(total_f.size, unit_f)] / total_f[:, None]
    effects = _effects(samples, devices) / total_f[:, None]
    straight, own = base.shape[1], base.shape[1] + _POWERS
    prior = np.r_[np.full(own, np.inf), _priors(devices)]
    linear_v, values = samples.above_v, np.zeros(prior.size)
    for _ in range(_ROUNDS):
        features = np.c_[base, linear_v**2, linear_v**3, effects]
        values = _ridge(features, samples.above_v, prior)
        linear_v = base @ values[:straight]
    error_v = np.c_[base, linear_v**2, linear_v**3, effects] @ values - samples.above_v
    constants = np.zeros(4)
    constants[np.r_[present, True]] = values[:straight] * np.r_[np.ones(straight - 1), unit_f]
    effect = _unpacked(values[own:], samples.shift_f.shape[2], devices)
    return _Fit(constants, values[straight:own], effect, error_v)


def _effects(samples: _Samples, devices: _Devices) -> Float[np.ndarray, "sample feature"]:
    """The weighted shifts in all rows, then by product."""
    every = samples.shift_f.sum(axis=1)[:, list(devices.alike)]
    return np.c_[every, samples.shift_f[:, :, list(devices.by_product)].reshape(len(every), -1)]


def _priors(devices: _Devices) -> Float[np.ndarray, " feature"]:
    alike, own = _PRIOR_V_V
    return np.r_[np.full(len(devices.alike), alike), np.full(3 * len(devices.by_product), own)]


def _unpacked(values: np.ndarray, count: int, devices: _Devices) -> Float[np.ndarray, "product device"]:
    """The effects by product and device, out of the features' order."""
    effect, alike = np.zeros((3, count)), len(devices.alike)
    effect[:, list(devices.alike)] = values[:alike]
    effect[:, list(devices.by_product)] += values[alike:].reshape(3, -1)
    return effect


def _ridge(
    features: Float[np.ndarray, "sample feature"],
    wanted: Float[np.ndarray, " sample"],
    prior: Float[np.ndarray, " feature"],
) -> Float[np.ndarray, " feature"]:
    """Least squares with a Gaussian prior around 0 on each coefficient, and noise of _NOISE_V."""
    kept = np.diag(_NOISE_V / prior)[np.isfinite(prior)]
    return np.linalg.lstsq(np.r_[features, kept], np.r_[wanted, np.zeros(len(kept))], rcond=None)[0]
