"""Images that a network takes as +1 and -1: pixels from a threshold on, and those below it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.binary_layers import PIXEL_MAX
from cosim.training.binary import signs


class PixelSign(nn.Module):
    """+1 for pixels from a threshold on, else -1; the first module of a network whose first layer is read too.

    Args:
        threshold: 1 to 255.

    Raises:
        InputError: Another threshold: all images would be the same.
    """

    threshold: Tensor

    def __init__(self, threshold: int) -> None:
        super().__init__()
        if not 1 <= threshold <= PIXEL_MAX:
            raise InputError(f"a threshold of pixels must be 1 to {PIXEL_MAX}, got {threshold}")
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, x: Float[Tensor, "image ..."]) -> Float[Tensor, "image ..."]:
        """Signs of the pixels."""
        return signs((x - self.threshold).detach())

    def extra_repr(self) -> str:
        """The threshold, for printing."""
        return str(int(self.threshold))
