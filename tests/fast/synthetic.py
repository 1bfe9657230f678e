"""Banks and columns whose right answer is known without ngspice."""

from __future__ import annotations

import numpy as np

from cosim.fast.bank import STATES, Bank
from cosim.fast.discharge import DischargeColumn, Waveform
from cosim.fast.electrical import Electrical
from cosim.fast.surface import fit_surface

LEVEL = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
VOLTAGE_V = np.linspace(0.0, 1.1, 12)


def law(shift_v: np.ndarray, level: float, voltage_v: float) -> np.ndarray:
    """Current of a pulled line: a polynomial of first and second order in two devices; the third does nothing."""
    strength = 1 - 5 * shift_v[..., 0] + 8 * shift_v[..., 0] ** 2 + 0.2 * shift_v[..., 1]
    return 1e-5 * strength * level * (voltage_v + 0.1 * voltage_v * shift_v[..., 0])


def bank(samples: int = 80, seed: int = 1) -> Bank:
    """Pulled lines draw `law`, the others nothing."""
    shift_v = np.random.default_rng(seed).normal(0, 0.05, (len(STATES), samples, 3))
    current_a = np.zeros((len(STATES), 2, samples, LEVEL.size, VOLTAGE_V.size))
    for index, (product, _) in enumerate(STATES):
        if product:
            curves = [[law(shift_v[index], level, voltage) for voltage in VOLTAGE_V] for level in LEVEL]
            current_a[index, int(product > 0)] = np.moveaxis(np.array(curves), 2, 0)
    good = np.ones((len(STATES), samples), bool)
    return Bank(shift_v, current_a, LEVEL, VOLTAGE_V, good, np.ones(len(STATES), bool))


def column(rows: int = 4, electrical: Electrical | None = None) -> DischargeColumn:
    wave = Waveform(rows, 1.0, (1.0, 1.0), 20e-15, 0.5, 10e-12, 10e-12, 150e-12, 200e-12)
    bare = Electrical(row_f=0.0, slope_f_v=0.0, couple_f=0.0)
    return DischargeColumn(fit_surface(bank()), wave, electrical or bare, {"cell": "synthetic", "corner": "none"})


def draws(samples: int, rows: int = 4, devices: int = 3, sigma_v: float = 0.03) -> tuple[np.ndarray, ...]:
    """Products of all three kinds, weights, and shifts."""
    generator = np.random.default_rng(samples)
    products = generator.choice(np.array([-1, 0, 1], np.int8), (samples, rows))
    weights = generator.choice(np.array([-1, 1], np.int8), (samples, rows))
    return products, weights, generator.normal(0, sigma_v, (samples, rows, devices))
