"""Flip maps: at which operating points and counts cells lost what they store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES, STATUS
from cosim.campaign.sweep import QUANTITIES, OperatingPoint

FLIPPED = STATUS.index("flipped")


@dataclass(frozen=True, slots=True)
class Flips:
    """The samples of one operating point and one pair of counts.

    Args:
        point: The operating point in words; empty in a file of one that does not say it.
        samples: Samples that gave values.
        flipped: Those in which a cell flipped.
    """

    point: str
    n_minus: int
    n_plus: int
    samples: int
    flipped: int

    @property
    def share(self) -> float:
        """Share of the samples."""
        return self.flipped / self.samples if self.samples else 0.0


def flips_of(samples: Path) -> tuple[Flips, ...]:
    """Every operating point and count at which a cell flipped in any sample; empty where all held.

    Args:
        samples: A samples.h5 of any minor version.

    Raises:
        InputError: The file is missing or damaged.
    """
    content = hdf5.read(samples, filetype=SAMPLES[0], major=SAMPLES[1][0])
    table = {name: data.values for name, data in content.datasets.items()}
    status = table["column_status"]
    if not (status == FLIPPED).any():
        return ()
    names = [_name(each) for each in json.loads(str(content.attributes.get("points", "[{}]")))]
    point = table.get("column_point", np.zeros(status.size, np.int32))
    where = np.stack([point, table["column_n_minus"], table["column_n_plus"]], axis=1)
    found: list[Flips] = []
    for index, minus, plus in np.unique(where[status == FLIPPED], axis=0).tolist():
        here = status[(where == (index, minus, plus)).all(axis=1)]
        found.append(Flips(names[index], minus, plus, int((here <= FLIPPED).sum()), int((here == FLIPPED).sum())))
    return tuple(found)


def _name(record: dict[str, str | float]) -> str:
    """An operating point of a file in words."""
    if not all(name in record for name in QUANTITIES):
        return ""
    return str(OperatingPoint(**{name: record[name] for name in QUANTITIES}))  # type: ignore[arg-type]
