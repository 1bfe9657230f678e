"""Sensing `charge-share`: the line is reset and released, then the rows' capacitors share their charge with it."""

from __future__ import annotations

import numpy as np

from cosim.circuit.column_rows import initial, line_capacitors, line_devices, row_instance, supplies
from cosim.circuit.column_setup import START_S, ColumnBench
from cosim.circuit.line_device import Clock, Phases
from cosim.circuit.sources import level_steps, time_marks


def charge_share_lines(
    bench: ColumnBench, inputs: np.ndarray, weights: np.ndarray, shifts: np.ndarray, scale: np.ndarray
) -> list[str]:
    """Sources, reset switches, rows and initial voltages; `scale` is not used."""
    del scale
    cell, phases = bench.cell, bench.cell.phases
    assert phases is not None
    assert cell.reset is not None
    words = {value: _word_levels(bench, value) for value in cell.drive}
    nodes = {pair: f"word_{i}" for i, pair in enumerate(sorted({p for w in words.values() for p in w.values()}))}
    rows = [
        row_instance(bench, i, {name: nodes[pair] for name, pair in words[int(inputs[i])].items()}, shifts[i])
        for i in range(bench.rows)
    ]
    return [
        *supplies(bench),
        *(_word_source(bench, phases, node, *pair) for pair, node in nodes.items()),
        *(_clock_source(bench, f"clock_{name}", clock) for name, clock in phases.clocks.items()),
        *_reset_sources(bench, phases),
        *time_marks(_marks(bench, phases)),
        *line_capacitors(bench),
        *line_devices(bench, cell.reset, {"supply": "vdd", "ground": "0", "gate": "reset", "gate_bar": "reset_bar"}),
        *rows,
        *initial(bench, weights, {}),
    ]


def _word_levels(bench: ColumnBench, input_: int) -> dict[str, tuple[float, float]]:
    """Where each word line rests and where it goes for an input, in units of the word-line voltage."""
    cell = bench.cell
    if bench.rest_level is not None:
        rest = dict.fromkeys(cell.ports.word_lines, bench.rest_level)
    else:
        rest = cell.drive.get(0, dict.fromkeys(cell.ports.word_lines, 0.0))
    driven = cell.drive[input_] if input_ else rest
    return {name: (rest[name], driven[name]) for name in cell.ports.word_lines}


def _word_source(bench: ColumnBench, phases: Phases, node: str, rest: float, driven: float) -> str:
    swing_v = bench.word_line_v
    if not phases.drive_s or rest == driven:
        return f"v{node} {node} 0 {driven * swing_v:.9g}"
    start_s, edge_s = START_S + phases.drive_s, bench.cell.defaults.edge_s
    return level_steps(f"v{node}", node, rest * swing_v, [(start_s, driven * swing_v)], edge_s)


def _clock_source(bench: ColumnBench, node: str, clock: Clock) -> str:
    high_v = clock.level * bench.corner.vdd_v
    edges = [(clock.rise_s, high_v), (clock.fall_s, 0.0)]
    steps = sorted((START_S + time_s, level_v) for time_s, level_v in edges if time_s is not None)
    first_v = high_v if not steps or steps[0][1] == 0 else 0.0
    return level_steps(f"v{node}", node, first_v, steps, bench.cell.defaults.edge_s)


def _reset_sources(bench: ColumnBench, phases: Phases) -> list[str]:
    vdd_v, edge_s = bench.corner.vdd_v, bench.cell.defaults.edge_s
    release_s = START_S + phases.release_s
    return [
        level_steps("vreset", "reset", vdd_v, [(release_s, 0.0)], edge_s),
        level_steps("vreset_bar", "reset_bar", 0.0, [(release_s, vdd_v)], edge_s),
        *(
            f"vlevel_{line} level_{line} 0 {bench.cell.precharge[line] * vdd_v:.9g}"
            for line in bench.cell.ports.bit_lines
        ),
    ]


def _marks(bench: ColumnBench, phases: Phases) -> list[float]:
    """Both ends of every edge."""
    clocks = [edge for clock in phases.clocks.values() for edge in (clock.rise_s, clock.fall_s)]
    edges = sorted({edge for edge in (phases.release_s, phases.drive_s or None, *clocks) if edge is not None})
    return [START_S + edge + end for edge in edges for end in (0.0, bench.cell.defaults.edge_s)]
