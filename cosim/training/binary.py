"""Binary torch modules: weights and activations are +-1, gradients pass straight through.

Courbariaux et al., "Binarized Neural Networks" (2016): the forward pass sees signs, the backward pass sees
the identity (weights) or the hard tanh (activations), and the latent weights are clipped to [-1, 1].
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.training.levels import quantize_weights


class BinaryLinear(nn.Module):
    """A dense layer without bias whose weights are the signs of its latent weights; sign(0) is +1.

    With several bits they are odd integers, see `cosim.training.levels`, summed in float64 in eval mode.

    Inputs of +-1, or pixels 0..255, give integer sums of at most 255 * 784 = 199,920 in magnitude. Every
    partial sum is an integer below 2^24, which float32 holds exactly, so the result is exact in any order of
    summation, fused or not.

    Args:
        weight: Latent weights, shape (column, input), within [-1, 1].
        bits: Bits of a weight.
    """

    def __init__(self, weight: Float[Tensor, "column input"], bits: int = 1) -> None:
        """Take the latent weights as the parameter."""
        super().__init__()
        self.bits = bits
        self.weight = nn.Parameter(weight)

    def forward(self, x: Float[Tensor, "image input"]) -> Float[Tensor, "image column"]:
        """Sums of the inputs with the signs of the weights, shape (image, column); in float32 under autocast too."""
        with torch.autocast(x.device.type, enabled=False):
            weight = binarize_weights(self.weight, self.bits)
            if self.bits > 1 and not self.training:
                return (x.double() @ weight.double().T).float()
            return x.float() @ weight.T

    @torch.no_grad()
    def clip(self) -> None:
        """Clip the latent weights to [-1, 1], as after every optimizer step."""
        self.weight.clamp_(-1.0, 1.0)


class Sign(nn.Module):
    """+1 where the input is at least 0, else -1; the gradient is that of the hard tanh."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Signs of the input."""
        return cast(Tensor, _ActivationSign.apply(x))


class ClassAffine(nn.Module):
    """logits = sum * scale + offset, one scale and one offset per class.

    Two elementwise float32 operations, never fused, so that NumPy gives the same bits.

    Args:
        scale: Shape (class,).
        offset: Shape (class,).
    """

    def __init__(self, scale: Float[Tensor, " column"], offset: Float[Tensor, " column"]) -> None:
        """Take scale and offset as parameters."""
        super().__init__()
        self.scale = nn.Parameter(scale)
        self.offset = nn.Parameter(offset)

    def forward(self, x: Float[Tensor, "image column"]) -> Float[Tensor, "image column"]:
        """Logits, same shape as the input."""
        return x.float() * self.scale + self.offset


def binary_mlp(
    widths: Sequence[int], *, seed: int, spread: float = 0.1, generator: torch.Generator | None = None
) -> nn.Sequential:
    """A binary multi-layer perceptron: (dense, norm, sign) for every hidden layer, then (dense, affine).

    Args:
        widths: Inputs, hidden widths, classes; for example (784, 1024, 1024, 10).
        seed: Seed of the initial weights.
        spread: Latent weights start uniform in [-spread, spread].
        generator: Gives the initial weights in place of a new one of the seed.

    >>> [name for name, _ in binary_mlp((4, 3, 2), seed=0).named_children()]
    ['dense1', 'norm1', 'sign1', 'dense2', 'affine']
    """
    generator = generator or torch.Generator().manual_seed(seed)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    last = len(widths) - 1
    for index in range(1, len(widths)):
        shape = (widths[index], widths[index - 1])
        weight = (torch.rand(shape, generator=generator) * 2.0 - 1.0) * spread
        modules[f"dense{index}"] = BinaryLinear(weight)
        if index < last:
            modules[f"norm{index}"] = nn.BatchNorm1d(widths[index])
            modules[f"sign{index}"] = Sign()
    scale = torch.full((widths[-1],), 1.0 / math.sqrt(widths[-2]))
    modules["affine"] = ClassAffine(scale, torch.zeros(widths[-1]))
    return nn.Sequential(modules)


def binarize_weights(weight: Float[Tensor, "*shape"], bits: int = 1) -> Float[Tensor, "*shape"]:
    """Signs of latent weights (sign(0) = +1), or odd integers, with a straight gradient."""
    if bits > 1:
        return quantize_weights(weight, bits)
    return cast(Tensor, _WeightSign.apply(weight))


def signs(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """+1 where x >= 0, else -1, in x's type."""
    return torch.ge(x, 0, out=torch.empty_like(x)).mul_(2).sub_(1)


class _WeightSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return signs(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return grad_outputs[0]


class _ActivationSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad_outputs[0], x, -1.0, 1.0)
