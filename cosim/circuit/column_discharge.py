"""Sensing `discharge`: two pre-charged lines, a word-line pulse, and a read after it."""

from __future__ import annotations

import numpy as np

from cosim.circuit.column_rows import initial, line_capacitors, row_instance, supplies
from cosim.circuit.column_setup import START_S, ColumnBench
from cosim.circuit.sources import edge_pulse, time_marks

_EDGE_MARKS = (0.0, 0.4, 0.7, 1.0)
"""Word-line levels that get a time step, in units of the peak: the current is most curved in the upper half."""


def discharge_lines(
    bench: ColumnBench, inputs: np.ndarray, weights: np.ndarray, shifts: np.ndarray, scale: np.ndarray
) -> list[str]:
    """Sources, rows and initial voltages; `scale` is not used, since every row has the same word line."""
    del scale
    rows = [row_instance(bench, i, word_nodes(bench, int(inputs[i])), shifts[i]) for i in range(bench.rows)]
    levels_v = dict.fromkeys(drive_nodes(bench), 0.0)
    return [*_sources(bench), *rows, *initial(bench, weights, levels_v)]


def drive_nodes(bench: ColumnBench) -> dict[str, float]:
    """The driven word-line nodes and their levels in units of the word-line voltage."""
    levels = {level for drive in bench.cell.drive.values() for level in drive.values() if level}
    return {f"drive_{index}": level for index, level in enumerate(sorted(levels))}


def word_nodes(bench: ColumnBench, input_: int) -> dict[str, str]:
    """The node of each word line of a row with an input."""
    nodes = {level: node for node, level in drive_nodes(bench).items()}
    return {name: nodes.get(level, "0") for name, level in bench.cell.drive[input_].items()}


def _sources(bench: ColumnBench) -> list[str]:
    edge_s = bench.cell.defaults.edge_s
    rising = [START_S + mark * edge_s for mark in _EDGE_MARKS]
    falling = [START_S + bench.pulse_s + (1 - mark) * edge_s for mark in reversed(_EDGE_MARKS)]
    return [
        *supplies(bench),
        *(
            edge_pulse(f"v{node}", node, level * bench.word_line_v, START_S, edge_s, bench.pulse_s)
            for node, level in drive_nodes(bench).items()
        ),
        *time_marks([*rising, *falling]),
        *line_capacitors(bench),
    ]
