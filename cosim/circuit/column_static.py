"""Sensing `static`: the word lines stay up, and each line settles between what holds it and the cells that pull it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cosim.circuit.column_discharge import drive_nodes, word_nodes
from cosim.circuit.column_rows import initial, line_capacitors, line_devices, row_instance, supplies
from cosim.circuit.column_setup import START_S, ColumnBench
from cosim.circuit.row_dac import dac_lines, dac_node
from cosim.circuit.sources import level_steps, time_marks


def static_lines(
    bench: ColumnBench, inputs: np.ndarray, weights: np.ndarray, shifts: np.ndarray, scale: np.ndarray
) -> list[str]:
    """Sources, what holds the lines, rows and initial voltages.

    Args:
        bench: The column.
        inputs: (row,) each row's input.
        weights: (row,) what each row stores.
        shifts: (row, device), in volts; of capacitors relative.
        scale: (row,) each row's share of the full current; used with a row DAC alone.
    """
    dac = bench.cell.row_dac is not None
    words = [_dac_words(bench, int(inputs[i]), float(scale[i])) if dac else word_nodes(bench, int(inputs[i]))
             for i in range(bench.rows)]  # fmt: skip
    rows = [row_instance(bench, i, words[i], shifts[i]) for i in range(bench.rows)]
    nodes_v = {} if dac else dict.fromkeys(drive_nodes(bench), 0.0)
    return [
        *supplies(bench),
        *(dac_lines(bench, sorted({float(s) for s in scale[inputs != 0]})) if dac else _word_sources(bench)),
        *line_capacitors(bench),
        *(_clamps(bench) if bench.cell.clamp is not None else _loads(bench)),
        *rows,
        *initial(bench, weights, nodes_v),
    ]


def read_nodes(bench: ColumnBench) -> tuple[str, ...]:
    """Where each line is read: the line itself, or what its clamp makes of its current."""
    return tuple(line if bench.cell.clamp is None else f"read_{line}" for line in bench.cell.ports.bit_lines)


def _word_sources(bench: ColumnBench) -> list[str]:
    edge_s, peak_v = bench.cell.defaults.edge_s, bench.word_line_v
    steps = [
        level_steps(f"v{node}", node, 0.0, [(START_S, level * peak_v)], edge_s)
        for node, level in drive_nodes(bench).items()
    ]
    return [*steps, *time_marks([START_S, START_S + edge_s])]


def _dac_words(bench: ColumnBench, input_: int, share: float) -> Mapping[str, str]:
    driven = bench.cell.drive[input_]
    return {name: dac_node(share) if level else "0" for name, level in driven.items()}


def _loads(bench: ColumnBench) -> list[str]:
    cell = bench.cell
    assert cell.load is not None
    levels_v = {line: cell.precharge[line] * bench.corner.vdd_v for line in cell.ports.bit_lines}
    return [
        *(f"vlevel_{line} level_{line} 0 {level_v:.9g}" for line, level_v in levels_v.items()),
        *line_devices(bench, cell.load, {"supply": "vdd", "ground": "0", "gate": "vdd", "gate_bar": "0"}),
    ]


def _clamps(bench: ColumnBench) -> list[str]:
    """A source behind a resistance on each line, and a read-out that falls with the current that it gives."""
    clamp = bench.cell.clamp
    assert clamp is not None
    lines: list[str] = []
    for line in bench.cell.ports.bit_lines:
        lines += [
            f"vclamp_{line} clamp_{line} 0 {clamp.level * bench.corner.vdd_v:.9g}",
            f"rclamp_{line} clamp_{line} {line} {clamp.resistance_ohm:.9g}",
            f"hread_{line} read_{line} clamp_{line} vclamp_{line} {clamp.transimpedance_ohm:.9g}",
        ]
    return lines
