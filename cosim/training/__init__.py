"""Training of binary networks with PyTorch: the only part of cosim that needs torch (extra `train`).

`train(recipe, out=folder)` trains and yields progress, `to_torch(network)` rebuilds the digital torch network
from packed bits, `export(module, ...)` packs a trained one, `convert(model)` turns a user's own model into modules
that can be packed and `list_convertible(model)` says what it will do. `convert(model, surrogate)` reads every partial
sum through a surrogate inside torch: `calibrate`, `set_mode`, `seed_reads` and `sample_die` go with it.
`load_qonnx(path)` reads a binary network of Brevitas or Larq from an ONNX file. The recipes of the shipped networks are
in `models/networks/recipes`. Names are loaded on first use, so `import cosim.training` itself stays light; it raises
`InputError` where torch is missing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cosim.errors import InputError

if TYPE_CHECKING:
    from cosim.training.conversion import Conversion, convert, list_convertible
    from cosim.training.loop import Progress, train
    from cosim.training.packed import export
    from cosim.training.qonnx import load_qonnx
    from cosim.training.recipe import TrainingRecipe, load_recipe
    from cosim.training.simulation import calibrate, sample_die, seed_reads, set_mode
    from cosim.training.unpacked import to_torch

__all__ = [
    "Conversion",
    "Progress",
    "TrainingRecipe",
    "calibrate",
    "convert",
    "export",
    "list_convertible",
    "load_qonnx",
    "load_recipe",
    "sample_die",
    "seed_reads",
    "set_mode",
    "to_torch",
    "train",
]

_HOME = {
    "Conversion": "conversion",
    "Progress": "loop",
    "TrainingRecipe": "recipe",
    "calibrate": "simulation",
    "convert": "conversion",
    "export": "packed",
    "list_convertible": "conversion",
    "load_qonnx": "qonnx",
    "load_recipe": "recipe",
    "sample_die": "simulation",
    "seed_reads": "simulation",
    "set_mode": "simulation",
    "to_torch": "unpacked",
    "train": "loop",
}

if find_spec("torch") is None:
    raise InputError("training needs PyTorch, which is not installed", hint="pip install 'cosim[train]'")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
