"""Weights and activations of several bits in torch; the levels are those of `cosim.network.levels`.

Values are odd integers: an activation or weight times 2**bits - 1, so that sums are exact and the batch norm after them
takes in the factor. Gradients pass straight through the levels as if there were none: of weights everywhere, of
activations where they lie within -1 and 1 (Courbariaux et al., 2016).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.levels import LEVEL_BITS_MAX, level_steps


class Levels(nn.Module):
    """Odd integers from -(2**bits - 1) to 2**bits - 1: the level nearest to the input within -1 and 1.

    Args:
        bits: Bits of a level, 2 to 7; `Sign` is for one.
    """

    def __init__(self, bits: int) -> None:
        """Keep the bits.

        Raises:
            InputError: They are out of range.
        """
        super().__init__()
        if not 2 <= bits <= LEVEL_BITS_MAX:
            raise InputError(f"bits of a level must be 2 to {LEVEL_BITS_MAX}, got {bits}")
        self.bits = bits

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Levels of the input."""
        return cast(Tensor, _ActivationLevels.apply(x, self.bits))

    def extra_repr(self) -> str:
        """Bits, for printing."""
        return f"bits={self.bits}"


def quantize_weights(weight: Float[Tensor, "*shape"], bits: int) -> Float[Tensor, "*shape"]:
    """Odd integers nearest to latent weights within -1 and 1, with a straight gradient."""
    return cast(Tensor, _WeightLevels.apply(weight, bits))


def levels_of(x: Float[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """Level 0 to 2**bits - 1 of every number."""
    steps = torch.from_numpy(level_steps(bits)).to(x.device)
    return torch.bucketize(x.detach().float().contiguous(), steps, right=True)


class _WeightLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.top = 2**bits - 1
        return (2 * levels_of(x, bits) - ctx.top).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * ctx.top, None


class _ActivationLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.top = 2**bits - 1
        return (2 * levels_of(x, bits) - ctx.top).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad_outputs[0] * ctx.top, x, -1.0, 1.0), None
