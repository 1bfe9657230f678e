"""The row DAC: what sets the word line of a row so that its cell carries a share of the full current."""

from __future__ import annotations

from cosim.circuit.column_setup import ColumnBench

SERVO_GAIN = 1e4
"""Volts of word line a volt of the replica's line, around the bench's word-line voltage: 0.1 V off it, the replica is
held to 10 uV. More gain makes more of what Newton's iteration leaves."""

SERVO_F = 4e-12
"""On the replica's line: the servo then has one pole at some 10 ps (full current), below the cell's own."""


def dac_node(share: float) -> str:
    """The word line's node of the rows with a share of the full current.

    >>> dac_node(0.25)
    'share_0_25'
    """
    return f"share_{share:.9g}".replace(".", "_").replace("-", "m").replace("+", "")


def dac_lines(bench: ColumnBench, shares: list[float]) -> list[str]:
    """The DAC of each share that a column uses.

    `replica`: one more cell without mismatch that stores -1. Its share of the full current is forced into its first
    line, and an ideal servo moves its word line until that line stands at the hold voltage; rows of that share get the
    same word line. `voltage`: the word line is the share of the word-line voltage.

    Args:
        bench: The column, with a row DAC and a clamp.
        shares: The different shares, each above 0.
    """
    dac, clamp = bench.cell.row_dac, bench.cell.clamp
    assert dac is not None
    assert clamp is not None
    if dac.drive == "voltage":
        return [f"v{dac_node(share)} {dac_node(share)} 0 {share * bench.word_line_v:.9g}" for share in shares]
    hold_v = clamp.level * bench.corner.vdd_v
    servo_v = hold_v - bench.word_line_v / SERVO_GAIN
    lines = [f"vhold hold 0 {hold_v:.9g}", f"vservo servo 0 {servo_v:.9g}"] if shares else []
    for share in shares:
        lines += _replica(bench, dac_node(share), share * dac.full_scale_a)
    return lines


def _replica(bench: ColumnBench, node: str, current_a: float) -> list[str]:
    """The replica cell, its current, its servo, and what it stores."""
    cell, vdd_v = bench.cell, bench.corner.vdd_v
    first, *others = cell.ports.bit_lines
    line = f"line_{node}"
    weight, input_ = cell.states(-1)[0]
    nodes = {first: line} | dict.fromkeys(others, "hold") | {cell.ports.supply: "vdd", cell.ports.ground: "0"}
    nodes |= {name: f"{name}_{node}" for name in cell.ports.storage}
    nodes |= {name: node if level else "0" for name, level in cell.drive[input_].items()}
    stored = cell.weight[weight]
    return [
        " ".join([f"x{node}", *(nodes[port] for port in cell.subcircuit.ports), cell.subcircuit.name]),
        f"i{node} 0 {line} {current_a:.9g}",
        f"c{node} {line} 0 {SERVO_F:.9g}",
        f"e{node} {node} 0 {line} servo {SERVO_GAIN:.9g}",
        *(f".ic v({name}_{node})={level * vdd_v:.9g}" for name, level in stored.items()),
    ]
