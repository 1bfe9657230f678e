"""The synthetic column at several operating points: samples.h5 1.1 by hand, as the contract says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_columns import column_reads, comparators, truth

from cosim import hdf5
from cosim.surrogate.model import LineModel


def record(process: str = "tt", vdd_v: float = 1.0, temp_c: float = 27.0, **more: Any) -> dict[str, Any]:
    return {
        "process": process, "vdd_v": vdd_v, "temp_c": temp_c, "word_line_v": 0.5, "pulse_s": 1.5e-10, "level": "L0",
    } | more  # fmt: skip


def line_at(point: dict[str, Any]) -> LineModel:
    """A line that every quantity moves smoothly, and none of them in a straight line."""
    v, t = (point["vdd_v"] - 1) / 0.1, (point["temp_c"] - 27) / 100
    word = (point["word_line_v"] - 0.5) / 0.05
    shift = {"tt": 0.0, "ff": -0.05, "ss": 0.05}[point["process"]]
    line = truth()
    drop = (1.0 + 0.1 * v + 0.02 * v * v) - line.mean_v * (1 - 0.05 * t) - shift
    mean_v = 1.0 + 0.1 * v - np.clip(drop, 0, None) * (1 + 0.1 * word)
    return replace(line, mean_v=np.minimum.accumulate(mean_v), sigma_v=line.sigma_v * np.exp(0.2 * v + 0.1 * t))


def write_points(
    path: Path,
    records: Sequence[dict[str, Any]],
    samples: int = 64,
    *,
    flipped: Sequence[int] = (),
    failed: Sequence[int] = (),
    offsets: int = 64,
    truth_at: Callable[[dict[str, Any]], LineModel] = line_at,
) -> Path:
    """The same draws at every point, as the campaign takes them; one flip, or a tenth of failures, at those named."""
    tables: list[dict[str, np.ndarray]] = []
    for index, each in enumerate(records):
        reads = column_reads(truth_at(each), samples, 1)
        status = np.zeros(reads.bl_v.size, np.uint8)
        if index in flipped:
            status[200] = 1
        if index in failed:
            status[::10] = 6
        columns = {
            "n_minus": reads.n_minus.astype(np.int32), "n_plus": reads.n_plus.astype(np.int32),
            "sample": reads.sample.astype(np.int32), "status": status, "bl_v": reads.bl_v, "blb_v": reads.blb_v,
            "point": np.full(status.size, index, np.int32),
        }  # fmt: skip
        tables.append({f"column_{name}": values for name, values in columns.items()} | _offsets(index, each, offsets))
    table = {name: np.concatenate([each[name] for each in tables]) for name in tables[0]}
    about: dict[str, hdf5.Attribute] = {
        "rows": 64, "amplifiers": json.dumps(["first", "second"]), "points": json.dumps(list(records)),
        "sensing": json.dumps(["single_ended", "differential"]), "cell": "xnor_8t", "process": "generic65",
    }  # fmt: skip
    datasets = {name: hdf5.Dataset(v, "1", name, (f"{name.split('_')[0]}_read",)) for name, v in table.items()}
    hdf5.write(path, hdf5.Content(about, datasets), filetype="cosim-samples", version=(1, 1))
    return path


def _offsets(index: int, point: dict[str, Any], offsets: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    parts: list[dict[str, np.ndarray]] = []
    for amplifier, model in enumerate(comparators(15e-3 * np.exp(0.3 * (point["vdd_v"] - 1) / 0.1)).values()):
        size = offsets * model.level_v.size
        parts.append({
            "amplifier": np.full(size, amplifier, np.uint8),
            "level_v": np.repeat(model.level_v, offsets),
            "sample": np.tile(np.arange(offsets, dtype=np.int32), model.level_v.size),
            "offset_v": np.repeat(model.offset_sigma_v, offsets) * generator.standard_normal(size),
            "status": np.zeros(size, np.uint8),
            "point": np.full(size, index, np.int32),
        })  # fmt: skip
    return {f"comparator_{name}": np.concatenate([each[name] for each in parts]) for name in parts[0]}
