"""The rows of a column in a deck: each cell's nodes, shifts and what it stores at the beginning."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cosim.circuit.column_setup import ColumnBench
from cosim.circuit.line_device import LineDevice


def storage_nodes(bench: ColumnBench) -> list[str]:
    """Every row's storage nodes, row by row: q_0, qb_0, q_1, ..."""
    return [f"{name}_{row}" for row in range(bench.rows) for name in bench.cell.ports.storage]


def row_instance(bench: ColumnBench, row: int, word_nodes: Mapping[str, str], shifts: np.ndarray) -> str:
    """One cell: its nodes in the subcircuit's order, and its devices' shifts.

    Args:
        bench: The column.
        row: Its number.
        word_nodes: The node of each of its word lines.
        shifts: (device,), in volts; of capacitors relative.
    """
    cell = bench.cell
    nodes = {name: name for name in cell.ports.bit_lines}
    nodes |= {name: f"{name}_{row}" for name in cell.ports.storage}
    nodes |= {name: level_node(name, level) for name, level in cell.ports.held.items()}
    nodes |= {name: f"clock_{name}" for name in (cell.phases.clocks if cell.phases else {})}
    nodes |= {**word_nodes, cell.ports.supply: "vdd", cell.ports.ground: "0"}
    shift = [f"{device.delvto}={value:.9g}" for device, value in zip(cell.devices, shifts, strict=True) if value]
    return " ".join([f"x{row}", *(nodes[port] for port in cell.subcircuit.ports), cell.subcircuit.name, *shift])


def supplies(bench: ColumnBench) -> list[str]:
    """The supply, and the levels that ports are held at beside supply and ground."""
    vdd_v = bench.corner.vdd_v
    held = {level_node(name, level): level for name, level in bench.cell.ports.held.items() if level not in (0, 1)}
    return [f"vdd vdd 0 {vdd_v:.9g}", *(f"v{node} {node} 0 {level * vdd_v:.9g}" for node, level in held.items())]


def line_capacitors(bench: ColumnBench) -> list[str]:
    """The wire of each bit line."""
    return [f"c{line} {line} 0 {bench.c_bit_line_f:.9g}" for line in bench.cell.ports.bit_lines]


def line_devices(bench: ColumnBench, device: LineDevice, nodes: Mapping[str, str]) -> list[str]:
    """A load or reset switch on each bit line.

    Args:
        bench: The column.
        device: What stands on each line.
        nodes: The node of each role beside the line's own and its level's.
    """
    order = bench.cell.line_ports[device.subcircuit]
    return [
        device.instance(f"x{line}_end", {**nodes, "line": line, "level": f"level_{line}"}, bench.rows, order)
        for line in bench.cell.ports.bit_lines
    ]


def initial(bench: ColumnBench, weights: np.ndarray, levels_v: Mapping[str, float]) -> list[str]:
    """The voltages at time 0: the supply, the lines, the given nodes, and what each row stores."""
    vdd_v, cell = bench.corner.vdd_v, bench.cell
    levels = {"vdd": vdd_v} | {name: cell.precharge[name] * vdd_v for name in cell.ports.bit_lines} | dict(levels_v)
    for row, weight in enumerate(weights):
        levels |= {f"{name}_{row}": level * vdd_v for name, level in cell.weight[int(weight)].items()}
    return [f".ic v({node})={level:.9g}" for node, level in levels.items()]


def level_node(name: str, level: float) -> str:
    """The node of a port that is held at a level in units of the supply."""
    return {0.0: "0", 1.0: "vdd"}.get(level, f"held_{name}")
