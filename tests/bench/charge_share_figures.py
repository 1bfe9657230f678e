"""Prints what a charge-sharing column does: gain, linearity, swing, settling and mismatch; the READMEs' tables.

Run: python tests/bench/charge_share_figures.py [CELL [samples]]; some minutes on one core. A count is one more row with
product +1 in the place of one with -1.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from cosim.circuit.capacitor import CapacitorDevice
from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck
from cosim.circuit.corner import Corner
from cosim.circuit.process import load_process
from cosim.spice.engine import Engine, Measured, open_engine


def main(name: str = "cap_8t1c", samples: int = 32) -> None:
    engine, cell, process = open_engine("shared"), load_cell(name), load_process("generic65")
    can_rest = bool(cell.states(0))
    print("| rows | rest level | bottom, V | step, mV | worst INL, counts | all rows off, V |\n" + "| --- " * 6 + "|")
    for rows in (16, 64, 128, 256):
        for rest in (0.5, 0.0) if can_rest else (None,):
            bench = column_bench(cell, process, rows=rows, rest_level=rest)
            bottom_v, step_v, inl = transfer(engine, bench)
            off = f"{read(engine, bench, off_rows=rows):.4f}" if can_rest else "-"
            print(f"| {rows} | {rest} | {bottom_v:.4f} | {1e3 * step_v:.3f} | {inl:.4f} | {off} |", flush=True)
    settings: Sequence[tuple[str, dict[str, Any]]] = [
        *((f"swing {swing} V", {"word_line_v": swing}) for swing in (0.2, 0.4, 0.5, 0.6)),
        ("swing 0.6 V at VDD 1.2 V", {"word_line_v": 0.6, "corner": Corner("tt", 1.2, 27)}),
        *((f"{c}", {"corner": Corner(c, 1.0, 27)}) for c in ("ff", "ss", "sf", "fs")),
        *((f"tt {v} V {t} C", {"corner": Corner("tt", v, t)}) for v, t in ((0.9, 27), (1.1, 27), (1, -40), (1, 125))),
        *((f"read after {t} ps", {"pulse_s": t * 1e-12, "time_step_s": 5e-12}) for t in (20, 50, 100, 200, 400)),
    ]
    print("\n| 64 rows | bottom, V | step, mV | worst INL, counts |\n| --- | --- | --- | --- |")
    for what, changes in settings:
        bottom_v, step_v, inl = transfer(engine, dataclasses.replace(column_bench(cell, process, rows=64), **changes))
        print(f"| {what} | {bottom_v:.4f} | {1e3 * step_v:.3f} | {inl:.3f} |", flush=True)
    print(f"\n| {samples} samples, k = rows / 2 | capacitors alone, counts | all, counts |\n| --- | --- | --- |")
    for rows in (64, 256):
        bench = column_bench(cell, process, rows=rows)
        step_v = transfer(engine, bench)[1]
        spread = [np.std(spread_v(engine, bench, samples, alone), ddof=1) / step_v for alone in (True, False)]
        print(f"| {rows} rows | {spread[0]:.3f} | {spread[1]:.3f} |", flush=True)
    engine.close()


def transfer(engine: Engine, bench: ColumnBench) -> tuple[float, float, float]:
    """The voltage at no row of +1, volts a count, and the worst distance from the line between the ends."""
    counts = np.arange(0, bench.rows + 1, bench.rows // 8)
    volts = np.array([read(engine, bench, int(count)) for count in counts])
    step_v = (volts[-1] - volts[0]) / bench.rows
    return float(volts[0]), float(step_v), float(abs(volts - volts[0] - step_v * counts).max() / step_v)


def spread_v(engine: Engine, bench: ColumnBench, samples: int, capacitors_alone: bool) -> list[float]:
    generator = np.random.default_rng(bench.rows)
    sigmas = bench.cell.vth_sigmas(bench.process)
    kept = [isinstance(device, CapacitorDevice) or not capacitors_alone for device in bench.cell.devices]
    draws = generator.normal(size=(samples, bench.rows, sigmas.size)) * sigmas * kept
    return [read(engine, bench, bench.rows // 2, shifts=draw) for draw in draws]


def read(
    engine: Engine, bench: ColumnBench, count: int = 0, off_rows: int = 0, shifts: np.ndarray | float = 0.0
) -> float:
    """The line in volts with `count` rows at +1, `off_rows` off and the others at -1."""
    products = np.repeat(np.array([1, -1, 0], np.int8), (count, bench.rows - count - off_rows, off_rows))
    given = np.zeros((bench.rows, len(bench.cell.devices))) + shifts
    (result,) = engine.run([column_deck(bench, products, np.ones(bench.rows, np.int8), given)], timeout_s=120)
    assert isinstance(result, Measured), result
    return float(result.values[0, -1])


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
