"""A column of cells on its bit lines, read once: its test bench as a deck, whatever the sensing style."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int8

from cosim.circuit.column_charge_share import charge_share_lines
from cosim.circuit.column_discharge import discharge_lines
from cosim.circuit.column_rows import storage_nodes
from cosim.circuit.column_setup import START_S, ColumnBench, column_bench
from cosim.circuit.column_static import read_nodes, static_lines
from cosim.circuit.deck import Deck, title_line
from cosim.errors import InputError

__all__ = ["START_S", "ColumnBench", "column_bench", "column_deck", "flipped_rows"]

Lines = Callable[[ColumnBench, np.ndarray, np.ndarray, np.ndarray, np.ndarray], list[str]]
"""A style's part of the deck, from (bench, inputs, weights, shifts, each row's share of the current)."""

_STYLES: dict[str, Lines] = {
    "discharge": discharge_lines,
    "static": static_lines,
    "charge-share": charge_share_lines,
}


def column_deck(
    bench: ColumnBench,
    products: Int8[np.ndarray, "row"],
    weights: Int8[np.ndarray, "row"],
    vth_shift_v: Float[np.ndarray, "row device"],
    row_share: Float[np.ndarray, "row"] | None = None,
) -> Deck:
    """The deck of one read of one column.

    Product -1 pulls the first bit line down, +1 the second, and a row of product 0 is off. The input of a row
    is product times weight, so the weights say through which word line a row pulls.

    Args:
        bench: The column.
        products: Weight times input of each row: -1, 0 or +1.
        weights: What each row stores: -1 or +1.
        vth_shift_v: Threshold shift of each transistor with mismatch, in volts, in the order of cell.devices;
            added to the card's VTH0, so a positive one weakens an nfet and strengthens a pfet. Of a capacitor, its
            relative deviation.
        row_share: Each row's share of the full current, above 0; for a cell with a row DAC alone. All 1 by default.

    Returns:
        A deck with the probes bl, blb (the contract's names; read_bl, read_blb with a clamp) and every row's storage
        nodes (q_0, qb_0, q_1, ...), read once at bench.sense_time_s.

    Raises:
        InputError: An array has the wrong shape or values, or the process lacks the corner.
    """
    _check_arrays(bench, products, weights, vth_shift_v)
    inputs = _inputs(bench, products, weights)
    share = np.ones(bench.rows) if row_share is None else row_share
    _check_share(bench, share)
    probes = (*read_nodes(bench), *storage_nodes(bench))
    lines = [
        title_line(f"{bench.cell.name}: one read of {bench.rows} rows, {bench.corner}"),
        *_options(bench),
        bench.process.corner_text(bench.corner.process).strip(),
        *bench.cell.subcircuit.render(bench.cell.parameters, bench.process.model_names),
        *_STYLES[bench.cell.sensing](bench, inputs, weights, vth_shift_v, share),
        *(f".save v({node})" for node in probes),
        f".tran {bench.time_step_s:.9g} {bench.sense_time_s:.9g} 0 {bench.time_step_s:.9g}{_start(bench)}",
        ".end",
    ]
    return Deck("\n".join(lines) + "\n", probes, (bench.sense_time_s,))


def flipped_rows(
    bench: ColumnBench, weights: Int8[np.ndarray, "row"], values: Float[np.ndarray, "probe time"]
) -> Bool[np.ndarray, "row"]:
    """Which rows lost what they stored: a storage node is on the wrong side of half the supply at the read.

    Args:
        bench: The column.
        weights: What each row stored.
        values: What column_deck's deck measured.
    """
    ports = bench.cell.ports
    read = values[len(ports.bit_lines) :, -1].reshape(bench.rows, len(ports.storage))
    high = np.array([[bench.cell.weight[int(w)][node] > 0.5 for node in ports.storage] for w in weights])
    return np.any((read > bench.corner.vdd_v / 2) != high, axis=1)


def _check_arrays(bench: ColumnBench, products: np.ndarray, weights: np.ndarray, vth_shift_v: np.ndarray) -> None:
    shape = (bench.rows, len(bench.cell.devices))
    if products.shape != shape[:1] or weights.shape != shape[:1] or vth_shift_v.shape != shape:
        came = f"{products.shape}, {weights.shape} and {vth_shift_v.shape}"
        raise InputError(f"expected products and weights of {shape[:1]}, shifts of {shape}, got {came}")
    if not np.isin(products, (-1, 0, 1)).all() or not np.isin(weights, (-1, 1)).all():
        raise InputError("products must be -1, 0 or +1 and weights -1 or +1")
    if not np.isfinite(vth_shift_v).all():
        raise InputError("threshold shifts must be finite")


def _inputs(bench: ColumnBench, products: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each row's input, product times weight; the cell must have a drive for it."""
    inputs = products.astype(np.int64) * weights
    impossible = ~np.isin(inputs, list(bench.cell.drive))
    if impossible.any():
        row = int(np.argmax(impossible))
        message = f"row {row}: product {products[row]:+d} with weight {weights[row]:+d} needs input {inputs[row]:+d}"
        known = ", ".join(f"{value:+d}" if value else "0" for value in bench.cell.drive)
        raise InputError(f"{message}, which {bench.cell.name!r} has no drive for", hint=f"its inputs: {known}")
    return inputs


def _check_share(bench: ColumnBench, share: np.ndarray) -> None:
    if share.shape != (bench.rows,) or not np.isfinite(share).all() or not (share > 0).all():
        raise InputError(f"expected {bench.rows} shares above 0, got shape {share.shape}")
    if bench.cell.row_dac is None and (share != 1).any():
        raise InputError(f"{bench.cell.name!r} has no [row_dac] to give rows a share of the current")


def _start(bench: ColumnBench) -> str:
    """Where the transient begins: at the given voltages, which are all; or at an operating point that holds them.

    A charge-sharing column has nodes inside its cells, which rest where the word lines are; a row DAC has a servo.
    """
    return "" if bench.cell.sensing == "charge-share" or bench.cell.row_dac is not None else " uic"


def _options(bench: ColumnBench) -> list[str]:
    """Temperature, method and tolerances.

    Trapezoid: Gear's damping costs millivolts. The steps decide the error, not the tolerances: reltol 1e-2 and
    1e-3 differed by 0.001 mV on average at the same steps. With bypass, though, reltol is the change of a voltage up to
    which a transistor keeps its current: 3e-4 adds 0.03 mV where 1e-3 adds 0.06, at nearly the same speed.
    The table of step and bypass against error is in netlists/bitcells/xnor_8t/README.md.
    """
    solver = f"reltol={'3e-4' if bench.bypass else '1e-3'} abstol=1e-9 vntol=1e-5"
    if bench.cell.clamp is not None:
        # Currents at a held line are wanted to a millionth: far more than a line that integrates them needs.
        solver = "reltol=1e-6 abstol=1e-12 vntol=1e-8"
    elif bench.cell.phases is not None and bench.cell.phases.clocks:
        # A clock's edge on every row's switch: reltol 1e-3 left 0.2 mV (rms) of 5.3 mV a count, this 0.005 mV.
        solver = "reltol=1e-5 abstol=1e-12 vntol=1e-8"
    return [
        f".option temp={bench.corner.temp_c:.9g} method=trap {solver} chgtol=1e-16",
        f".option bypass={int(bench.bypass)}",
    ]
