"""Control variates of a column: what its draw tells of it before it is simulated."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

from cosim.circuit.cell import Cell

LINES = (-1, 1)
"""The product that pulls each line, in the order of the lines."""

WEIGHTS = (-1, 1)


def column_controls(
    products: Int8[np.ndarray, "sample row"],
    weights: Int8[np.ndarray, "sample row"],
    vth_shift_v: Float[np.ndarray, "sample row device"],
    sigmas: Float[np.ndarray, " device"],
    cell: Cell,
) -> Float[np.ndarray, "line sample control"]:
    """Sums of the devices' shifts over the rows that pull each line: normal, with mean 0 and variance 1.

    A line falls with the sum of its rows' currents, which is nearly linear in the shifts; rows that store another
    weight conduct through other devices. So there is a control for each weight and device, first all devices of
    weight -1: the sum over the line's rows of that weight of the device's shift in sigmas, divided by the root of
    the expected number of such rows (weights are drawn with even chances where the cell can make the product with
    both). Controls are uncorrelated over draws. One that can have no row is 0, as are those of a device without
    mismatch.
    """
    standard = np.divide(vth_shift_v, sigmas, out=np.zeros_like(vth_shift_v), where=sigmas > 0)
    controls = np.zeros((len(LINES), len(WEIGHTS), len(products), sigmas.size))
    for line, product in enumerate(LINES):
        pulls = products == product
        can = {weight for weight, _ in cell.states(product)}
        for place, weight in enumerate(WEIGHTS):
            # All samples of a point have as many rows that pull the line.
            expected = pulls[:1].sum() * (0.5 if len(can) == len(WEIGHTS) else float(weight in can))
            if expected:
                chosen = (pulls & (weights == weight)).astype(float)
                controls[line, place] = np.einsum("sr,srd->sd", chosen, standard) / np.sqrt(expected)
    return np.concatenate([controls[:, place] for place in range(len(WEIGHTS))], axis=2)
