"""A module of a user's own in a `Graph`, in floating point as it is."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class KeptLayer(nn.Module):
    """A module as it is in the place of a layer; it gives real numbers, and `export` refuses it.

    Args:
        name: Its name, by which others take its output.
        module: The module.
        source: The layer whose output it takes; "" for the one before, of the first one the pixels.
        input: Whether it takes signs or levels of a real output, or the numbers.
        activation_bits: Bits of signs and levels.
        flat: Whether it takes columns and no map.
    """

    gives_reals = True
    shortcut = ""
    scale_inputs = False

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        source: str = "",
        input: Literal["binary", "real"] = "real",
        activation_bits: int = 1,
        flat: bool = False,
    ) -> None:
        """Keep them."""
        super().__init__()
        self.name, self.module, self.source = name, module, source
        self.activation_bits, self.flat = activation_bits, flat
        self.input: Literal["binary", "on_off", "real"] = input

    def forward(self, x: Tensor, added: Tensor | None = None, before: Tensor | None = None) -> Tensor:
        """What the module gives; it has neither a shortcut nor scales."""
        return self.module(x.flatten(1) if self.flat else x)
