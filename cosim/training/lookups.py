"""Reads looked up by torch's own operations, on any device, and the gradient that passes straight through them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor


def alias_centroids(
    share: Float32[Tensor, "entry slot"],
    pair: Int32[Tensor, "entry slot two"],
    entry: Int64[Tensor, "*read"],
    drawn: Float32[Tensor, "*read"],
) -> Int32[Tensor, "*read"]:
    """Centroids drawn from alias tables by uniform numbers, of which the whole part of slots is the slot."""
    slots = share.shape[1]
    drawn = drawn.flatten() * slots
    slot = drawn.long()
    at = torch.add(slot, entry.flatten(), alpha=slots)
    own = drawn.sub_(slot) < share.flatten().index_select(0, at)
    return pair.flatten().index_select(0, at.mul_(2).add_(own)).view(entry.shape)


class StraightThrough(torch.autograd.Function):
    """The values that were read, with the gradient of the exact sums."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, read: Tensor) -> Tensor:
        """The values that were read."""
        ctx.dtype = exact.dtype
        return read.view_as(read)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        """The gradient, for the exact sums alone."""
        return grad_outputs[0].to(ctx.dtype), None
