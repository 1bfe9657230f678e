"""A charge-share column in closed form: V = v_0 + sum C_i dV_i / (sum C_i + C_p), with mismatch of every capacitor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES
from cosim.surrogate.samples import ColumnSamples


@dataclass(frozen=True)
class Divider:
    """Units of one cell's capacitance; `rest` is where the plates rest and where they stay in a row that is off."""

    rows: int = 32
    swing_v: float = 0.4
    parasitic: float = 6.0
    mismatch: float = 0.03
    rest: float = 0.5
    start_v: float = 0.5
    inverted: bool = False

    def moves(self, minus: int, plus: int) -> np.ndarray:
        """How far each row's plate moves, in volts."""
        low, high = -self.rest * self.swing_v, (1 - self.rest) * self.swing_v
        moves = np.repeat([low, high, 0.0], [minus, plus, self.rows - minus - plus])
        return -moves if self.inverted else moves

    def mean_v(self, minus: int, plus: int) -> float:
        """Without mismatch."""
        return self.start_v + self.moves(minus, plus).sum() / (self.rows + self.parasitic)

    def sigma_v(self, minus: int, plus: int) -> float:
        """To first order: dV/dC_i = (dV_i - (V - v_0)) / C_total."""
        moves = self.moves(minus, plus)
        share = (moves - (self.mean_v(minus, plus) - self.start_v)) / (self.rows + self.parasitic)
        return self.mismatch * float(np.sqrt((share**2).sum()))

    def draw(self, minus: int, plus: int, samples: int, generator: np.random.Generator) -> np.ndarray:
        size = 1 + self.mismatch * generator.standard_normal((samples, self.rows))
        return self.start_v + size @ self.moves(minus, plus) / (size.sum(axis=1) + self.parasitic)


def pairs_of(rows: int, active: tuple[int, ...], counts: tuple[int, ...]) -> list[tuple[int, int]]:
    """The contract of `column.active_rows`: at each number the counts up to it, and it itself."""
    return [(n, a - n) for a in active for n in sorted({*(c for c in counts if c <= a), a})]


def divider_reads(divider: Divider, pairs: list[tuple[int, int]], samples: int, seed: int = 0) -> ColumnSamples:
    generator = np.random.default_rng(seed)
    volts = np.concatenate([divider.draw(*pair, samples, generator) for pair in pairs])
    minus, plus = (np.repeat(np.array(each, float), samples) for each in zip(*pairs, strict=True))
    sample = np.tile(np.arange(samples, dtype=float), len(pairs))
    return ColumnSamples(minus, plus, sample, volts, np.full(volts.size, np.nan))


def write_divider(path: Path, reads: ColumnSamples, rows: int, recipe: str = "") -> Path:
    """A `samples.h5` of such reads with a sharp single-ended comparator."""
    levels, offsets = np.linspace(0.2, 0.8, 5), 64
    offset_v = np.random.default_rng(9).normal(0, 2e-3, levels.size * offsets)
    columns = {
        "column_n_minus": reads.n_minus.astype(np.int32),
        "column_n_plus": reads.n_plus.astype(np.int32),
        "column_sample": reads.sample.astype(np.int32),
        "column_status": np.zeros(reads.sample.size, np.uint8),
        "column_bl_v": reads.bl_v,
        "column_blb_v": reads.blb_v,
        "comparator_amplifier": np.zeros(offset_v.size, np.uint8),
        "comparator_level_v": np.repeat(levels, offsets),
        "comparator_sample": np.tile(np.arange(offsets, dtype=np.int32), levels.size),
        "comparator_offset_v": offset_v,
        "comparator_status": np.zeros(offset_v.size, np.uint8),
    }
    about: dict[str, hdf5.Attribute] = {
        "rows": rows, "amplifiers": json.dumps(["sharp"]), "sensing": json.dumps(["single_ended"]), "recipe": recipe,
    }  # fmt: skip
    datasets = {name: hdf5.Dataset(v, "1", name, (f"{name.split('_')[0]}_read",)) for name, v in columns.items()}
    hdf5.write(path, hdf5.Content(about, datasets), filetype=SAMPLES[0], version=SAMPLES[1])
    return path
