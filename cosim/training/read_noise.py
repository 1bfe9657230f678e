"""The generator of a layer's read noise: one a device, seeded by (seed, layer), kept apart from all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cosim.errors import InputError

_NOISE, _OFFSETS = 0, 1


class ReadNoise:
    """Generators that are made when a device first asks; a copy goes on from the same state.

    Args:
        seed: 0 to 2**64 - 1.
        layer: The layer's number in its model, so that layers draw different numbers.
    """

    def __init__(self, seed: int, layer: int) -> None:
        check_seed(seed)
        self.seed = seed
        self.layer = layer
        self._generators: dict[str, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator:
        """The device's generator."""
        name = str(device)
        if name not in self._generators:
            state = _sequence(self.seed, self.layer, _NOISE).generate_state(1, np.uint64)[0]
            self._generators[name] = torch.Generator(device=device).manual_seed(int(state) >> 1)
        return self._generators[name]

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's generators are kept by their states."""
        states = {name: generator.get_state() for name, generator in self._generators.items()}
        return {"seed": self.seed, "layer": self.layer, "states": states}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Back from `__getstate__`."""
        self.__init__(kept["seed"], kept["layer"])
        for name, state in kept["states"].items():
            self._generators[name] = torch.Generator(device=name)
            self._generators[name].set_state(state)


def offset_generator(seed: int, layer: int) -> np.random.Generator:
    """The generator of a die's comparators in one layer: the same numbers on every device and machine."""
    check_seed(seed)
    return np.random.default_rng(_sequence(seed, layer, _OFFSETS))


def check_seed(seed: int) -> None:
    """Refuse a seed that is none.

    Raises:
        InputError: Not from 0 to 2**64 - 1.
    """
    if not 0 <= seed < 2**64:
        raise InputError(f"seed must be 0 to 2**64 - 1, got {seed}")


def _sequence(seed: int, layer: int, stream: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(layer, stream))
