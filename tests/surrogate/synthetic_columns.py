"""Columns and comparators whose moments are known exactly, as samples that a fit can take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import pearson3

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES
from cosim.surrogate.fit import ColumnSamples
from cosim.surrogate.model import ComparatorModel, LineModel, Sensing, Surrogate

COUNTS = (0, 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 60, 62, 63, 64)
LEVELS = {"single_ended": np.linspace(0.3, 1.05, 6), "differential": np.linspace(-0.75, 0.75, 7)}


def truth(rows: int = 64) -> LineModel:
    """A line that falls by half a volt, with the noise of a sum of cells and the skew of a real one."""
    n = np.arange(rows + 1.0)
    mean_v = 1 - 0.6 * n / (n + 0.5 * rows)
    sigma_v = 1.5e-3 * np.sqrt(n) * np.exp(-0.8 * n / rows)
    skew = np.concatenate(([0.0], -0.5 / np.sqrt(n[1:]) + 0.2 * n[1:] / rows))
    none = np.zeros(rows + 1)
    return LineModel(mean_v, sigma_v, skew, none, none, none)


def comparators(sigma_v: float = 15e-3, skew: float = 0.0) -> dict[Sensing, ComparatorModel]:
    models: dict[Sensing, ComparatorModel] = {}
    for sensing in ("single_ended", "differential"):
        level_v = LEVELS[sensing]
        sigma = sigma_v * (1 + 0.3 * np.abs(level_v))
        models[sensing] = ComparatorModel("ideal", level_v, sigma, sigma, np.full(level_v.size, skew), 0.1 * sigma, 50)
    return models


def true_surrogate(rows: int = 64, sigma_v: float = 15e-3) -> Surrogate:
    return Surrogate(truth(rows), comparators(sigma_v), {}, {"rows": rows})


def draw(line: LineModel, count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    standard = pearson3.rvs(line.skew[count], size=size, random_state=generator) if count else np.zeros(size)
    return line.mean_v[count] + line.sigma_v[count] * standard


def column_reads(line: LineModel, samples: int, seed: int, counts: tuple[int, ...] = COUNTS) -> ColumnSamples:
    """`samples` reads of both lines at each count, every row on."""
    generator = np.random.default_rng(seed)
    rows = line.rows
    bl_v = np.concatenate([draw(line, n, samples, generator) for n in counts])
    blb_v = np.concatenate([draw(line, rows - n, samples, generator) for n in counts])
    n_minus = np.repeat(np.array(counts, float), samples)
    return ColumnSamples(n_minus, rows - n_minus, np.tile(np.arange(samples, dtype=float), len(counts)), bl_v, blb_v)


def write_samples(
    path: Path,
    reads: ColumnSamples,
    rows: int,
    *,
    offsets: int = 64,
    seed: int = 1,
    failed: tuple[int, ...] = (),
    flipped: tuple[int, ...] = (),
    skew: float = 0.0,
) -> Path:
    """A `samples.h5` of such reads, with comparators' offsets; `failed` are reads without values."""
    generator = np.random.default_rng(seed)
    status = np.zeros(reads.bl_v.size, np.uint8)
    status[list(failed)] = 3
    bad = status != 0
    status[list(flipped)] = 1
    columns = {
        "column_n_minus": reads.n_minus.astype(np.int32),
        "column_n_plus": reads.n_plus.astype(np.int32),
        "column_sample": reads.sample.astype(np.int32),
        "column_status": status,
        "column_bl_v": np.where(bad, np.nan, reads.bl_v),
        "column_blb_v": np.where(bad, np.nan, reads.blb_v),
        "column_flipped": np.where(bad, -1, 0).astype(np.int16),
    }
    models = comparators(skew=skew)
    level = [np.repeat(model.level_v, offsets) for model in models.values()]
    offset = [
        np.repeat(m.offset_mean_v, offsets)
        + np.repeat(m.offset_sigma_v, offsets)
        * pearson3.rvs(skew, size=offsets * m.level_v.size, random_state=generator)
        for m in models.values()
    ]
    columns |= {
        "comparator_amplifier": np.repeat(np.arange(2, dtype=np.uint8), [each.size for each in level]),
        "comparator_level_v": np.concatenate(level),
        "comparator_sample": np.concatenate([np.arange(each.size) % offsets for each in level]).astype(np.int32),
        "comparator_offset_v": np.concatenate(offset),
        "comparator_status": np.zeros(sum(each.size for each in level), np.uint8),
    }
    attributes: dict[str, hdf5.Attribute] = {
        "rows": rows,
        "amplifiers": json.dumps(["first", "second"]),
        "sensing": json.dumps(list(models)),
    }
    datasets = {
        name: hdf5.Dataset(values, "1", name, (f"{name.split('_')[0]}_read",)) for name, values in columns.items()
    }
    hdf5.write(path, hdf5.Content(attributes, datasets), filetype=SAMPLES[0], version=SAMPLES[1])
    return path


def controlled_reads(samples: int, seed: int, rest: float = 0.1, shift_v: float = 0.0) -> ColumnSamples:
    """As `column_reads` in batches of 4, normal, with two controls that tell all but a share `rest` of each sigma.

    Args:
        shift_v: Added to every fourth batch, which takes no part in a fit.
    """
    generator, line = np.random.default_rng(seed), truth()
    reads = column_reads(line, samples, seed)
    batch = np.floor(reads.sample / 4)
    controls = generator.standard_normal((2, reads.bl_v.size, 2))
    lines = []
    for count, control in ((reads.n_minus, controls[0]), (reads.n_plus, controls[1])):
        index = count.astype(int)
        told = control @ np.array([0.6, -0.8]) * np.sqrt(1 - rest**2)
        spread = told + rest * generator.standard_normal(count.size)
        lines.append(line.mean_v[index] + line.sigma_v[index] * spread + shift_v * (batch % 4 == 3))
    return replace(reads, bl_v=lines[0], blb_v=lines[1], batch=batch, control_bl=controls[0], control_blb=controls[1])
