"""Checkpoints of a training run in the project's HDF5 contract: no pickle, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.hdf5 import Content, Dataset, read, write

FILETYPE = "cosim-checkpoint"
VERSION = (1, 0)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is: epochs done and seconds of training spent on them."""

    epoch: int
    seconds: float


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Adam, position: Position, identity: str
) -> None:
    """Write weights, batch-norm statistics, Adam's moments and the position.

    Args:
        path: The file; replaced atomically.
        module: The network in training.
        optimizer: Its optimizer, after at least one step.
        position: Where the run is.
        identity: What the run depends on (recipe, data, torch); only a run of the same identity resumes here.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    datasets = {f"model/{_path(key)}": _dataset(value) for key, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for moment, value in optimizer.state[parameter].items():
            datasets[f"optimizer/{_path(name)}_{moment}"] = _dataset(value)
    attributes = {
        "epoch": position.epoch,
        "training_seconds": position.seconds,
        "identity": identity,
    }
    write(path, Content(attributes, datasets), filetype=FILETYPE, version=VERSION)


def load_checkpoint(path: Path, module: nn.Module, optimizer: torch.optim.Adam, identity: str) -> Position:
    """Set the module and the optimizer to the file's state, to the bit, and return the position.

    Raises:
        InputError: The file is cut, of another type, or of a run with another recipe, data or torch version.
    """
    content = read(path, filetype=FILETYPE, major=VERSION[0])
    attributes = content.attributes
    if attributes.get("identity") != identity:
        raise InputError(
            "this checkpoint belongs to a run with another recipe, other images or another torch version",
            place=str(path),
            hint="give another output folder, or remove the file to start again",
        )
    try:
        _restore(content.datasets, module, optimizer)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"the checkpoint does not fit the network: {error}", place=str(path)) from error
    epoch, seconds = attributes.get("epoch"), attributes.get("training_seconds")
    if not isinstance(epoch, int) or not isinstance(seconds, float):
        raise InputError("the checkpoint does not say how far it is", place=str(path))
    return Position(epoch, seconds)


def _restore(datasets: Mapping[str, Dataset], module: nn.Module, optimizer: torch.optim.Adam) -> None:
    state = {key: _tensor(datasets[f"model/{_path(key)}"]) for key in module.state_dict()}
    module.load_state_dict(state)
    for name, parameter in module.named_parameters():
        prefix = f"optimizer/{_path(name)}_"
        optimizer.state[parameter] = {
            moment: _tensor(datasets[prefix + moment]) for moment in ("step", "exp_avg", "exp_avg_sq")
        }


def _dataset(tensor: Tensor) -> Dataset:
    values = tensor.detach().cpu().numpy()
    axes = ("column", "input", "kernel_row", "kernel_column")[: values.ndim]
    return Dataset(values, units="1", long_name="state of a training run", axes=axes)


def _tensor(dataset: Dataset) -> Tensor:
    return torch.from_numpy(np.array(dataset.values))


def _path(key: str) -> str:
    return key.replace(".", "/")
