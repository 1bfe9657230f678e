"""Builds the fast column of lines that settle: the bank at one word-line level, and what holds the lines."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from cosim.circuit.column import START_S, ColumnBench, column_deck
from cosim.circuit.column_rows import line_devices, supplies
from cosim.circuit.deck import Deck, title_line
from cosim.circuit.row_dac import dac_node
from cosim.errors import MeasuredWorseError
from cosim.fast.bank import CELLS, Bank, measure_bank
from cosim.fast.capacitance import fitted_capacitance_f
from cosim.fast.draws import simulate
from cosim.fast.static import Holder, StaticColumn
from cosim.fast.surface import fit_surface
from cosim.fast.sweep import GAIN_OHM, OPTIONS, STEP_S, TIMEOUT_S, Drive, voltage_axis
from cosim.spice.engine import Engine, Failed

FIT_SHARES = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.25, 0.5))
"""Shares of the rows that pull the first and the second line in the full columns that settling is looked at in."""

_SUM, _LOWEST = 1.7, 0.3
_EARLY = 0.75
"""Where in the time from the word line's edge to the read the lines are looked at first."""

_SETTLED_V = 0.05e-3
"""What a line may still move after that and count as settled."""

_MOST_LINES = 20.0


def build_static(bench: ColumnBench, engine: Engine, *, seed: int = 0, cells: int = CELLS) -> StaticColumn:
    """A fast column of a bench whose lines are loaded or clamped.

    Raises:
        MeasuredWorseError: The bank or the full columns gave no values, or cells flipped.
    """
    drive = Drive(_word_line_v(bench, engine), (1.0,), _SUM, _LOWEST)
    bank = measure_bank(bench, engine, seed=seed, cells=cells, drive=drive)
    surface = fit_surface(bank)
    about = _about(bench, bank, seed) | {"surface_error": float(surface.error.max()), "peak_v": drive.word_line_v}
    return _timed(StaticColumn(surface, _holder(bench, engine), about), bench, engine, seed)


def _about(bench: ColumnBench, bank: Bank, seed: int) -> dict[str, str | int | float]:
    return {
        "cell": bench.cell.name,
        "process": bench.process.name,
        "corner": str(bench.corner),
        "seed": seed,
        "cells": bank.shift_v.shape[1],
        "flipped_cells": int((~bank.settled).sum()),
    }


def _word_line_v(bench: ColumnBench, engine: Engine) -> float:
    """The peak of a driven word line, in volts; with a row DAC, what it makes of the full current."""
    if bench.cell.row_dac is None:
        return bench.word_line_v
    products = np.full(bench.rows, -1, np.int8)
    weights = np.full(bench.rows, bench.cell.states(-1)[0][0], np.int8)
    deck = column_deck(bench, products, weights, np.zeros((bench.rows, len(bench.cell.devices))))
    node = dac_node(1.0)
    text = deck.text.replace("\n.save ", f"\n.save v({node})\n.save ", 1)
    (result,) = engine.run([Deck(text, (node,), deck.times_s)], timeout_s=TIMEOUT_S)
    if isinstance(result, Failed):
        raise MeasuredWorseError(f"no word-line voltage of {bench.cell.name} at {bench.corner}: {result.detail}")
    return float(result.values[0, -1])


def _holder(bench: ColumnBench, engine: Engine) -> Holder:
    """The clamp from its contract, or the load as measured."""
    cell, clamp = bench.cell, bench.cell.clamp
    first, last = cell.ports.bit_lines[0], cell.ports.bit_lines[-1]
    start_v = cell.precharge[first] * bench.corner.vdd_v, cell.precharge[last] * bench.corner.vdd_v
    time_s = bench.sense_time_s - START_S - cell.defaults.edge_s / 2
    if clamp is None:
        return Holder(bench.rows, len(cell.ports.bit_lines), _load_a(bench, engine), 0.0, 0.0, start_v, time_s)
    level_v = clamp.level * bench.corner.vdd_v
    current_a = (level_v - voltage_axis(bench.corner.vdd_v)) / clamp.resistance_ohm
    lines = np.stack([current_a] * 2)
    count = len(cell.ports.bit_lines)
    return Holder(bench.rows, count, lines, level_v, clamp.transimpedance_ohm, start_v, time_s)


def _load_a(bench: ColumnBench, engine: Engine) -> Float[np.ndarray, "line voltage"]:
    """The current of each line's load into its line, on the voltage axis; one slow ramp."""
    cell, vdd_v, grid_v = bench.cell, bench.corner.vdd_v, voltage_axis(bench.corner.vdd_v)
    assert cell.load is not None
    lines = cell.ports.bit_lines
    times_s = tuple(STEP_S * (step + 2) for step in range(grid_v.size))
    ramp = f"pwl(0 {grid_v[0]:.9g} {times_s[0]:.9g} {grid_v[0]:.9g} {times_s[-1]:.9g} {grid_v[-1]:.9g})"
    text = [
        title_line(f"load of {cell.name}: {bench.corner}"),
        f".option temp={bench.corner.temp_c:.9g} {OPTIONS}",
        bench.process.corner_text(bench.corner.process).strip(),
        *cell.subcircuit.render(cell.parameters, bench.process.model_names),
        *supplies(bench),
        *(f"vlevel_{line} level_{line} 0 {cell.precharge[line] * vdd_v:.9g}" for line in lines),
        *line_devices(bench, cell.load, {"supply": "vdd", "ground": "0", "gate": "vdd", "gate_bar": "0"}),
        *(f"vramp_{line} {line} 0 {ramp}" for line in lines),
        *(f"hsense_{line} sense_{line} 0 vramp_{line} {GAIN_OHM:g}" for line in lines),
        *(f".save v(sense_{line})" for line in lines),
        # Between the simulator's own points the curve is read as straight lines: many make the error small.
        f".tran {STEP_S:g} {times_s[-1]:.9g} 0 {STEP_S / 20:g}",
        ".end",
    ]
    deck = Deck("\n".join(text) + "\n", tuple(f"sense_{line}" for line in lines), times_s)
    (result,) = engine.run([deck], timeout_s=TIMEOUT_S)
    if isinstance(result, Failed):
        raise MeasuredWorseError(f"no current of the load of {cell.name} at {bench.corner}: {result.detail}")
    # The ramp's source takes in what the load gives.
    return np.stack([result.values[0], result.values[-1]]) / GAIN_OHM


def _timed(fast: StaticColumn, bench: ColumnBench, engine: Engine, seed: int) -> StaticColumn:
    """The same column with the capacitance that a few full ones tell, if they have not settled at the read.

    How far it is from them goes into `about`.
    """
    counts = [(round(bench.rows * minus), round(bench.rows * plus)) for minus, plus in FIT_SHARES]
    early_s = bench.sense_time_s - (1 - _EARLY) * bench.pulse_s
    columns = simulate(bench, engine, counts, seed=seed + 1, marks_s=(early_s, bench.sense_time_s))
    if not columns.usable.any():
        hint = "a lower word_line_v"
        raise MeasuredWorseError("no full column without flipped cells", place=str(bench.corner), hint=hint)
    lines = fast.holder.lines
    read = columns.voltage_v[columns.usable, :lines]
    moved_v = np.abs(read[:, :, 1] - read[:, :, 0]).max(axis=1)
    unsettled = int((moved_v > _SETTLED_V).sum())
    drawn = columns.products[columns.usable], columns.weights[columns.usable], columns.vth_shift_v[columns.usable]

    def error_v(capacitance_f: float) -> np.ndarray:
        holder = dataclasses.replace(fast.holder, capacitance_f=capacitance_f)
        return dataclasses.replace(fast, holder=holder).read(*drawn)[:, :lines] - read[:, :, 1]

    capacitance_f = 0.0
    if unsettled:
        capacitance_f = fitted_capacitance_f(error_v, bench.c_bit_line_f, _MOST_LINES * bench.c_bit_line_f, 1e-5)
    figures = {"fit_rms_v": float(np.sqrt((error_v(capacitance_f) ** 2).mean())), "unsettled_columns": unsettled}
    holder = dataclasses.replace(fast.holder, capacitance_f=capacitance_f)
    return dataclasses.replace(fast, holder=holder, about=fast.about | figures)
