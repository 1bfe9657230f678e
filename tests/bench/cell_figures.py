"""Prints what a column of a cell does, with and without mismatch: the tables in the cells' READMEs.

Run: python tests/bench/cell_figures.py CELL [samples [count ...]] [NAME=VALUE ...]. A count is how many rows have
product +1; the others have -1. NAME=VALUE changes a field of ColumnBench, or process, vdd_v and temp_c.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from cosim.circuit.cell import load_cell
from cosim.circuit.column import ColumnBench, column_bench, column_deck, flipped_rows
from cosim.circuit.corner import Corner
from cosim.circuit.process import load_process
from cosim.spice.engine import Engine, Measured, open_engine


def main(name: str, *arguments: str) -> None:
    settings: dict[str, Any] = dict(each.split("=") for each in arguments if "=" in each)
    numbers = [int(each) for each in arguments if "=" not in each]
    cell = load_cell(name)
    corner = Corner(
        settings.pop("process", "tt"),
        float(settings.pop("vdd_v", cell.defaults.vdd_v)),
        float(settings.pop("temp_c", 27)),
    )
    changes = {key: int(value) if key == "rows" else float(value) for key, value in settings.items()}
    bench = column_bench(cell, load_process("generic65"), corner, **changes)
    samples = numbers[0] if numbers else 48
    counts = numbers[1:] or [bench.rows * each // 8 for each in range(9)]
    lines = [line.upper() for line in cell.ports.bit_lines]
    columns = [f"{line}, {what}" for line in lines for what in ("no mismatch", "mean", "sigma")]
    columns += [f"{' - '.join(lines)} sigma"] if len(lines) == 2 else []
    print(f"{cell.name}: {bench.rows} rows, {corner}, {samples} samples a count")
    print(f"| k | {' | '.join(columns)} | flipped |\n{'| --- ' * (len(columns) + 2)}|")
    engine = open_engine("shared")
    for count in counts:
        print(f"| {count} | {' | '.join(figures(engine, bench, count, samples))} |", flush=True)
    engine.close()


def figures(engine: Engine, bench: ColumnBench, count: int, samples: int) -> list[str]:
    """Each line's voltage without mismatch, its mean and its sigma; the flipped cells of all samples."""
    generator = np.random.default_rng([count, bench.rows])
    sigmas = bench.cell.vth_sigmas(bench.process)
    products = np.where(np.arange(bench.rows) < count, 1, -1).astype(np.int8)
    reads, flipped = [], 0
    for sample in range(samples + 1):
        weights = np.array([bench.cell.states(int(p))[0][0] for p in products], np.int8)
        if sample and len(bench.cell.states(1)) == 2:
            weights = generator.choice(np.array([-1, 1], np.int8), bench.rows)
        shifts = generator.normal(size=(bench.rows, sigmas.size)) * sigmas * bool(sample)
        (result,) = engine.run([column_deck(bench, products, weights, shifts)], timeout_s=120)
        assert isinstance(result, Measured), result
        flipped += int(flipped_rows(bench, weights, result.values).sum())
        reads.append(result.values[: len(bench.cell.ports.bit_lines), -1])
    plain, drawn = reads[0], np.array(reads[1:]).reshape(samples, -1)
    found = []
    for line, volts in enumerate(drawn.T):
        found += [f"{plain[line]:.4f} V", f"{volts.mean():.4f} V", f"{1e3 * volts.std(ddof=1):.2f} mV"]
    if len(plain) == 2:
        found.append(f"{1e3 * (drawn[:, 0] - drawn[:, 1]).std(ddof=1):.2f} mV")
    return [*found, str(flipped)]


if __name__ == "__main__":
    main(*sys.argv[1:])
