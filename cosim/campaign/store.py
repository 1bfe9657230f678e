"""Samples on disk: one shard a task, renamed into place, and one file of all of them once they are complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Shaped

from cosim import hdf5
from cosim.campaign.filetypes import SAMPLES, SHARD, STATUS, TRANSIENT
from cosim.campaign.moments import batches_of
from cosim.campaign.points import ComparatorPoint, Kind
from cosim.campaign.prepare import Prepared, pairs_of
from cosim.campaign.recipe import Campaign
from cosim.campaign.sampling import Samples, Task, column_types, controls_of
from cosim.campaign.stopping import Ending
from cosim.circuit.amplifier import SenseAmplifier
from cosim.circuit.capacitor import CapacitorDevice
from cosim.circuit.cell import Cell
from cosim.circuit.contract import MismatchDevice
from cosim.errors import CosimError, InputError

_META = {
    "sample": ("1", "index of the Monte Carlo sample, which seeds it"),
    "status": (
        "1",
        f"what became of the sample: {', '.join(f'{i} {name}' for i, name in enumerate(STATUS))}",
    ),
    "bl_v": ("V", "bit line BL at the read-out time"),
    "blb_v": ("V", "bit line BLB at the read-out time; not a number where a column has one line"),
    "flipped": ("1", "cells that flipped during the read; -1 where the sample failed"),
    "offset_v": ("V", "input-referred comparator offset"),
    "n_minus": ("1", "rows that pull BL down"),
    "n_plus": ("1", "rows that pull BLB down"),
    "level_v": ("V", "reference level of the comparator"),
    "common_mode_v": ("V", "common mode of the comparator's inputs; of a single-ended one, its level"),
    "amplifier": ("1", "index into the attribute `amplifiers`"),
    "point": ("1", "operating point: index into the attribute `points`"),
    "level": ("1", "what read the column: 0 the full circuit, 2 the fast column"),
    "batch": ("1", "independently randomised batch of draws that the sample belongs to"),
    "control_bl": ("1", "sums of the drawn shifts of the rows that pull BL, by weight and device; mean 0, variance 1"),
    "control_blb": (
        "1",
        "sums of the drawn shifts of the rows that pull BLB, by weight and device; mean 0, variance 1",
    ),
    "control": ("1", "drawn shift of each device in units of its sigma; not a number beyond the last device"),
}

_CONTROLS = ("control_bl", "control_blb", "control")
"""The datasets of two axes."""


@dataclass(frozen=True, slots=True)
class SampleStore:
    """A folder of samples.

    Args:
        folder: Holds `shards/` and, when complete, `samples.h5`.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """The file of all samples."""
        return self.folder / "samples.h5"

    def has(self, task: Task) -> bool:
        """Whether the task needs no run: its shard is there and whole, without a timeout or a crash."""
        return self.settled(task) is not None

    def settled(self, task: Task) -> Samples | None:
        """A task's samples if it `has` them; a damaged shard is done again, whatever it holds."""
        try:
            samples = self.load(task)
        except CosimError:
            return None
        return None if np.isin(samples.columns["status"], TRANSIENT).any() else samples

    def save(self, samples: Samples) -> None:
        """Write a task's shard; it appears whole or not at all."""
        task = samples.task
        attributes = {
            "key": task.key,
            "point": task.point.label,
            "failures": json.dumps({str(index): text for index, text in samples.failures.items()}),
        }
        datasets = {name: _dataset(name, values, "row") for name, values in samples.columns.items()}
        path = self._shard(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        hdf5.write(path, hdf5.Content(attributes, datasets), filetype=SHARD[0], version=SHARD[1])

    def load(self, task: Task) -> Samples:
        """A task's samples.

        Raises:
            InputError: The shard is missing, damaged or of another task.
        """
        path = self._shard(task)
        content = hdf5.read(path, filetype=SHARD[0], major=SHARD[1][0])
        columns = {name: data.values for name, data in content.datasets.items()}
        expected = np.arange(task.start, task.stop)
        if content.attributes.get("key") != task.key or not np.array_equal(columns.get("sample", ()), expected):
            raise InputError("the shard is of another task", place=str(path))
        for name in column_types(task.point):
            if columns.get(name, np.empty(0)).shape != expected.shape:
                raise InputError(f"the shard has no {name} of each sample", place=str(path))
        if not columns.keys() & set(_CONTROLS):
            columns |= controls_of(task)  # A shard of version 1.0: its draws are what they were.
        try:
            texts = json.loads(str(content.attributes["failures"]))
            failures = {int(index): str(text) for index, text in texts.items()}
        except (KeyError, ValueError, AttributeError, RecursionError) as error:
            raise InputError("the shard's failures are not one text a sample", place=str(path)) from error
        return Samples(task, columns, failures)

    def sweep(self) -> None:
        """Remove what a killed run left half-written; only for who holds the folder's lock."""
        for folder, names in ((self.folder, ".*-samples.h5.tmp"), (self.folder / "shards", ".*.h5.tmp")):
            for left in folder.glob(names):
                left.unlink(missing_ok=True)

    def _shard(self, task: Task) -> Path:
        return self.folder / "shards" / f"{task.key[:24]}-{task.start:06d}-{task.stop:06d}.h5"


def merge(
    store: SampleStore,
    campaign: Campaign,
    tasks: list[Task],
    engine_version: str,
    ready: Sequence[Prepared],
    endings: Sequence[Ending] = (),
) -> Path:
    """Write `samples.h5` from complete shards; the content does not depend on the order they came in.

    Args:
        ready: The operating points.
        endings: Where each point ended whose number of samples a standard error decided.
    """
    parts = [store.load(task) for task in tasks]
    amplifiers = [each.amplifier for each in campaign.recipe.comparator]
    datasets: dict[str, hdf5.Dataset] = {}
    for kind in get_args(Kind):
        chosen = [part for part in parts if part.task.point.kind == kind]
        for name, values in _table(chosen, amplifiers).items():
            datasets[f"{kind}_{name}"] = _dataset(name, values, f"{kind}_read")
    failures = [[part.task.point.label, index, text] for part in parts for index, text in sorted(part.failures.items())]
    attributes = provenance(campaign, engine_version) | {
        "amplifiers": json.dumps(amplifiers),
        "sensing": json.dumps([each.sensing for each in campaign.recipe.comparator]),
        "failures": json.dumps(failures),
        "points": json.dumps([each.record(pairs_of(campaign)) for each in ready], allow_nan=False),
        "tasks": tasks_hash(tasks),
    }
    if endings:
        attributes["stopping"] = json.dumps([each.as_json() for each in endings], allow_nan=False)
    hdf5.write(store.path, hdf5.Content(attributes, datasets), filetype=SAMPLES[0], version=SAMPLES[1])
    return store.path


def merged(store: SampleStore, campaign: Campaign, tasks: list[Task]) -> bool:
    """Whether `samples.h5` is there, whole, of this version, of just these tasks, and with this recipe's text."""
    try:
        about = hdf5.read(store.path, filetype=SAMPLES[0], major=SAMPLES[1][0]).attributes
    except CosimError:
        return False
    expected = (tasks_hash(tasks), _sha256(campaign.text), list(SAMPLES[1]))
    return (about.get("tasks"), about.get("recipe_sha256"), about.get("version")) == expected


def tasks_hash(tasks: list[Task]) -> str:
    """The hash of a list of tasks: two files with the same one hold the same samples."""
    return _sha256(" ".join(f"{task.key} {task.start} {task.stop}" for task in tasks))


def provenance(campaign: Campaign, engine_version: str) -> dict[str, str | int | float]:
    """What a file says of where it came from: texts, their SHA-256, the engine; never a path."""
    recipe = campaign.recipe
    corners = dict.fromkeys(point.process for point in campaign.operating_points)
    texts = {
        "process" if len(corners) == 1 else f"process_{corner}": campaign.process.corner_text(corner)
        for corner in corners
    }
    texts |= {"cell": _netlist(campaign, campaign.cell)} | {
        f"amplifier_{name}": _netlist(campaign, amplifier) for name, amplifier in campaign.amplifiers.items()
    }
    attributes: dict[str, str | int | float] = {
        "engine": f"ngspice ({recipe.engine})",
        "engine_version": engine_version,
        "recipe": campaign.text,
        "recipe_sha256": _sha256(campaign.text),
        "seed": recipe.seed,
        "rows": recipe.column.rows,
        "cell": campaign.cell.name,
        "process": campaign.process.name,
    }
    for name, text in texts.items():
        attributes[f"netlist_{name}"] = text
        attributes[f"netlist_{name}_sha256"] = _sha256(text)
    return attributes


def _netlist(campaign: Campaign, circuit: Cell | SenseAmplifier) -> str:
    """A circuit as it stands in the decks, with its mismatch sigmas as comments."""
    lines = circuit.subcircuit.render(circuit.parameters, campaign.process.model_names)
    sigmas = zip(circuit.devices, circuit.vth_sigmas(campaign.process), strict=True)
    remarks = (f"* sigma({device.delvto}) = {sigma:.6g}{_unit(device)}" for device, sigma in sigmas)
    return "\n".join([*lines, *remarks]) + "\n"


def _unit(device: MismatchDevice | CapacitorDevice) -> str:
    """Thresholds are in volts; current factors and capacitors are relative."""
    return " V" if isinstance(device, MismatchDevice) and device.quantity == "vth" else ""


def _table(parts: list[Samples], amplifiers: list[str]) -> dict[str, Shaped[np.ndarray, "read *control"]]:
    """All samples of one kind as one table, with the coordinates of their point."""
    if not parts:
        return {}
    coordinates = [_coordinates(part, amplifiers) for part in parts]
    rows = [place | part.columns for place, part in zip(coordinates, parts, strict=True)]
    return {name: _stacked([row[name] for row in rows]) for name in rows[0]}


def _stacked(values: list[Shaped[np.ndarray, "_ *control"]]) -> Shaped[np.ndarray, "read *control"]:
    """All values in one array; circuits of fewer devices have no numbers in the last columns."""
    if values[0].ndim == 1:
        return np.concatenate(values)
    widest = max(each.shape[1] for each in values)
    blanks = [np.full((len(each), widest - each.shape[1]), np.nan, each.dtype) for each in values]
    return np.concatenate([np.hstack(pair) for pair in zip(values, blanks, strict=True)])


def _coordinates(part: Samples, amplifiers: list[str]) -> dict[str, Shaped[np.ndarray, " read"]]:
    task, point, sample = part.task, part.task.point, part.columns["sample"]
    batch = batches_of(sample, point.batch, point.method).astype(np.int32)
    operating = {"point": np.full(sample.size, point.operating, np.int32), "batch": batch}
    if isinstance(point, ComparatorPoint):
        return operating | {
            "amplifier": np.full(sample.size, amplifiers.index(point.amplifier), np.uint8),
            "level_v": np.full(sample.size, point.level_v),
            "common_mode_v": np.full(sample.size, point.bench.common_mode_v),
        }
    return operating | {
        "n_minus": np.full(sample.size, point.n_minus, np.int32),
        "n_plus": np.full(sample.size, point.n_plus, np.int32),
        "level": np.full(sample.size, 0 if task.fast is None else 2, np.uint8),
    }


def _dataset(name: str, values: Shaped[np.ndarray, "read *control"], axis: str) -> hdf5.Dataset:
    units, long_name = _META[name]
    axes = (axis, axis.replace("read", "term").replace("row", "term")) if name in _CONTROLS else (axis,)
    return hdf5.Dataset(values, units, long_name, axes)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
