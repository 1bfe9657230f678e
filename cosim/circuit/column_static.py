"""Sensing `static`: the word lines stay up, and each line settles between its load and the cells that pull it."""

from __future__ import annotations

import numpy as np

from cosim.circuit.column_discharge import drive_nodes, word_nodes
from cosim.circuit.column_rows import initial, line_capacitors, line_devices, row_instance, supplies
from cosim.circuit.column_setup import START_S, ColumnBench
from cosim.circuit.sources import level_steps, time_marks


def static_lines(
    bench: ColumnBench, inputs: np.ndarray, weights: np.ndarray, shifts: np.ndarray, scale: np.ndarray
) -> list[str]:
    """Sources, loads, rows and initial voltages; `scale` is not used, since every row has the same word line."""
    del scale
    assert bench.cell.load is not None
    edge_s, peak_v = bench.cell.defaults.edge_s, bench.word_line_v
    rows = [row_instance(bench, i, word_nodes(bench, int(inputs[i])), shifts[i]) for i in range(bench.rows)]
    levels_v = {f"level_{line}": bench.cell.precharge[line] * bench.corner.vdd_v for line in bench.cell.ports.bit_lines}
    return [
        *supplies(bench),
        *(
            level_steps(f"v{node}", node, 0.0, [(START_S, level * peak_v)], edge_s)
            for node, level in drive_nodes(bench).items()
        ),
        *time_marks([START_S, START_S + edge_s]),
        *(f"v{node} {node} 0 {level_v:.9g}" for node, level_v in levels_v.items()),
        *line_capacitors(bench),
        *line_devices(bench, bench.cell.load, {"supply": "vdd", "ground": "0", "gate": "vdd", "gate_bar": "0"}),
        *rows,
        *initial(bench, weights, dict.fromkeys(drive_nodes(bench), 0.0)),
    ]
