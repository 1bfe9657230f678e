"""The response surface: what a cell's current curves are, as a polynomial in its threshold shifts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8, Int64

from cosim.fast.bank import SPREAD, STATES, Bank

MAX_COMPONENTS = 10
RANK_TOLERANCE = 2e-6
"""Components whose singular value is below this share of the largest are dropped."""

ORDERS = (2, 3, 4, 5, 6, 7)
"""Weighted degrees that are tried."""

_FOLDS = 5
_MATTERS = ((0.3, 1), (3e-3, 2), (1e-4, 3))
"""A device with this share of the strongest one's effect has this weight in the degree; weaker ones are left out."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Coefficient vectors of cells from their threshold shifts.

    A feature is the one before it in the tree (`parent`) times the scaled shift of one device; feature 0 is 1.

    Args:
        scale_v: What a device's shift is divided by, in volts.
        parent: The feature that each one multiplies.
        device: The device that each one multiplies by.
        features: How many features count; the later ones are padding. None: a state that the cell cannot be in.
        weight: Components by feature.
        basis_a: Current curves of the components, in amperes.
        level: Word-line levels in units of the peak.
        voltage_v: Bit-line voltages, in volts.
        order: The weighted degree that was chosen for each state and line.
        error: Cross-validated rms error of a cell's current at the peak level, as a share of the pulled line's mean.
    """

    scale_v: Float[np.ndarray, " device"]
    parent: Int64[np.ndarray, "state line feature"]
    device: Int64[np.ndarray, "state line feature"]
    features: Int64[np.ndarray, "state line"]
    weight: Float[np.ndarray, "state line feature component"]
    basis_a: Float[np.ndarray, "component level voltage"]
    level: Float[np.ndarray, " level"]
    voltage_v: Float[np.ndarray, " voltage"]
    order: Int64[np.ndarray, "state line"]
    error: Float[np.ndarray, "state line"]

    def coefficients(
        self,
        products: Int8[np.ndarray, "sample row"],
        weights: Int8[np.ndarray, "sample row"],
        vth_shift_v: Float[np.ndarray, "sample row device"],
    ) -> Float[np.ndarray, "sample line component"]:
        """The sum of the cells' coefficient vectors: all that mismatch does to a column's currents."""
        from cosim.fast import kernels

        shift_v = np.ascontiguousarray(vth_shift_v, np.float64)
        polynomial = (self.scale_v, self.parent, self.device, self.features, self.weight)
        return kernels.coefficients(products, weights, shift_v, *polynomial)


Monomial = tuple[int, ...]
"""Devices of a product, rising, each as often as its power."""


def fit_surface(bank: Bank) -> Surface:
    """The basis (singular vectors of all curves), and each state's and line's best polynomial in cross-validation."""
    basis, norm_a = _basis(bank)
    spread_v = np.sqrt((bank.shift_v**2).mean(axis=(0, 1)))
    scale_v = np.where(spread_v > 0, spread_v, 1.0)
    fits: list[tuple[list[Monomial], np.ndarray, int, float]] = []
    for state in range(len(STATES)):
        kept = bank.settled[state]
        if not bank.possible[state]:
            fits += [([], np.zeros((0, len(basis))), 0, 0.0)] * 2
            continue
        shifts = bank.shift_v[state, kept] / scale_v
        for line in (0, 1):
            curves = bank.current_a[state, line, kept]
            target = curves.reshape(len(curves), -1) @ basis.T
            monomials, weight, order, error = _fit(shifts, target)
            fits.append((monomials, weight, order, error / norm_a))
    return _pack(bank, scale_v, basis, fits)


def _basis(bank: Bank) -> tuple[Float[np.ndarray, "component point"], float]:
    """Orthonormal curves, and the norm of the mean curve of a pulled line."""
    points = bank.current_a.shape[3] * bank.current_a.shape[4]
    states = np.flatnonzero(bank.possible)
    kept = [bank.current_a[s, line, bank.settled[s]].reshape(-1, points) for s in states for line in (0, 1)]
    curves = np.concatenate(kept)
    values, vectors = np.linalg.eigh(curves.T @ curves)
    singular = np.sqrt(np.maximum(values[::-1], 0.0))
    count = min(MAX_COMPONENTS, int((singular > RANK_TOLERANCE * singular[0]).sum()))
    pulled = max(float(np.linalg.norm(curves.mean(axis=0))) for curves in kept)
    return vectors[:, ::-1][:, :count].T.copy(), pulled


def _fit(
    shifts: Float[np.ndarray, "sample device"], target: Float[np.ndarray, "sample component"]
) -> tuple[list[Monomial], Float[np.ndarray, "feature component"], int, float]:
    """The order with the least cross-validated error, and its weights from all samples."""
    weights = _device_weights(shifts, target)
    best: tuple[float, int, list[Monomial]] | None = None
    for order in ORDERS:
        monomials = _monomials(weights, order)
        if best and len(monomials) > 0.6 * len(shifts):
            break
        error = _cross_validated(_features(shifts, monomials), target, _likelihood(shifts))
        if best is None or error < best[0]:
            best = error, order, monomials
    assert best is not None
    error, order, monomials = best
    return monomials, _solve(_features(shifts, monomials), target, _likelihood(shifts)), order, error


def _device_weights(shifts: np.ndarray, target: np.ndarray) -> dict[int, int]:
    """The degree that one factor of each device counts as, from a linear fit."""
    linear = np.linalg.lstsq(np.c_[np.ones(len(shifts)), shifts], target, rcond=None)[0][1:]
    effect = np.linalg.norm(linear, axis=1)
    strongest = max(float(effect.max()), 1e-300)
    weights: dict[int, int] = {}
    for device, value in enumerate(effect):
        found = [weight for share, weight in _MATTERS if value >= share * strongest]
        if found:
            weights[device] = found[0]
    return weights


def _monomials(weights: dict[int, int], order: int) -> list[Monomial]:
    """All products of a weighted degree of at most `order`; each one's first factors are there before it."""
    found: list[Monomial] = []
    for degree in range(order + 1):
        products = itertools.combinations_with_replacement(sorted(weights), degree)
        found += [product for product in products if sum(weights[device] for device in product) <= order]
    return found


def _features(shifts: np.ndarray, monomials: list[Monomial]) -> np.ndarray:
    return np.stack([np.prod(shifts[:, list(monomial)], axis=1) for monomial in monomials], axis=1)


def _likelihood(shifts: np.ndarray) -> np.ndarray:
    """Square root of how much more likely a cell is in the process than in the bank, kept above a floor.

    Shifts are in units of the bank's spread, whose square is 1; the process's is 1 / SPREAD^2.
    """
    ratio = np.exp(-0.5 * (SPREAD**2 - 1) * (shifts**2).max(axis=1))
    return np.sqrt(np.maximum(ratio, 0.05))


def _solve(features: np.ndarray, target: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(features * likelihood[:, None], target * likelihood[:, None], rcond=1e-10)[0]


def _cross_validated(features: np.ndarray, target: np.ndarray, likelihood: np.ndarray) -> float:
    """Rms error of the curve's norm over left-out cells, weighted by how likely they are."""
    fold = np.arange(len(features)) % _FOLDS
    error = np.empty(len(features))
    for left_out in range(_FOLDS):
        rest, out = fold != left_out, fold == left_out
        weights = _solve(features[rest], target[rest], likelihood[rest])
        error[out] = np.linalg.norm(features[out] @ weights - target[out], axis=1)
    return float(np.sqrt(np.average(error**2, weights=likelihood**2)))


def _pack(
    bank: Bank,
    scale_v: np.ndarray,
    basis: np.ndarray,
    fits: list[tuple[list[Monomial], np.ndarray, int, float]],
) -> Surface:
    """All polynomials in arrays of one length; padding features have no weight."""
    shape, longest = (len(STATES), 2), max(len(monomials) for monomials, *_ in fits)
    parent, device = np.zeros((len(fits), longest), np.int64), np.zeros((len(fits), longest), np.int64)
    weight = np.zeros((len(fits), longest, len(basis)))
    for index, (monomials, values, _, _) in enumerate(fits):
        where = {monomial: i for i, monomial in enumerate(monomials)}
        for i, monomial in enumerate(monomials[1:], 1):
            parent[index, i], device[index, i] = where[monomial[:-1]], monomial[-1]
        weight[index, : len(monomials)] = values
    return Surface(
        scale_v,
        parent.reshape(*shape, longest),
        device.reshape(*shape, longest),
        np.array([len(monomials) for monomials, *_ in fits], np.int64).reshape(shape),
        weight.reshape(*shape, longest, len(basis)),
        basis.reshape(len(basis), bank.level.size, bank.voltage_v.size),
        bank.level,
        bank.voltage_v,
        np.array([order for _, _, order, _ in fits], np.int64).reshape(shape),
        np.array([error for *_, error in fits]).reshape(shape),
    )
