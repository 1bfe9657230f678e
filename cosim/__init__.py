"""SPICE-coupled circuit-to-network co-simulation for SRAM compute-in-memory.

From an SRAM cell's netlist to a network's accuracy:

    cell = cosim.load_cell("xnor_8t")
    store = cosim.characterize(cell, "quick", out="runs/a")
    surrogate = cosim.fit(store)
    surrogate.save("a.h5")
    network = cosim.load_network("fashion_mnist_mlp")
    calibration = cosim.calibrate(network, surrogate, training_images)
    result = cosim.evaluate(network, surrogate, images, labels, mode="iid", calibration=calibration)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosim.api import (
        calibrate,
        characterize,
        evaluate,
        fit,
        load_cell,
        load_family,
        load_images,
        load_network,
        load_surrogate,
        save_surrogate,
    )

    __version__: str

__all__ = [
    "calibrate",
    "characterize",
    "evaluate",
    "fit",
    "load_cell",
    "load_family",
    "load_images",
    "load_network",
    "load_surrogate",
    "save_surrogate",
]


def __getattr__(name: str) -> Any:
    """The library's functions, imported on first use so that `import cosim` stays light."""
    if name == "__version__":
        from importlib.metadata import version

        return version("cosim")
    if name not in __all__:
        raise AttributeError(f"module 'cosim' has no attribute {name!r}")
    return getattr(import_module("cosim.api"), name)
