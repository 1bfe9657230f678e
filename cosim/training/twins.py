"""Modules of a user's model as binary or real ones of ours, and what joins their batch norm."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.training.binary import BinaryLinear
from cosim.training.convolutional import BinaryConv2d
from cosim.training.groups import Norm, gives_reals
from cosim.training.packed import pair
from cosim.training.probing import column_scales
from cosim.training.real import AffineNorm1d, AffineNorm2d, GlobalAverage, RealConv2d, RealLinear
from cosim.training.simulated import plain

Weighted = nn.Linear | nn.Conv2d | BinaryLinear | BinaryConv2d | RealLinear | RealConv2d
Average = nn.AvgPool2d | nn.AdaptiveAvgPool2d | GlobalAverage
PLAIN = (nn.Linear, nn.Conv2d, BinaryLinear, BinaryConv2d, RealLinear, RealConv2d)


@dataclass(slots=True)
class Pending:
    """Weights whose batch norm has not come yet: the sums are multiplied by `scale` and `bias` is added.

    With `real` weights their batch norm is an AffineNorm.
    """

    name: str
    columns: int
    conv: bool
    scale: Float[Tensor, " column"]
    bias: Float[Tensor, " column"]
    real: bool = False


def scale_of(module: Weighted) -> tuple[str, Float[Tensor, " column"]]:
    """What becomes of the weights, and the factor of every column."""
    weight = module.weight.detach().flatten(1)
    ones = torch.ones(len(weight))
    if isinstance(module, BinaryLinear | BinaryConv2d):
        return "binary as it is", ones
    if not isinstance(module, RealLinear | RealConv2d) and type(module) not in PLAIN:
        scale = column_scales(module)
        if scale is None:
            raise InputError("its forward is not a sum of inputs times signs of its weights, times a factor a column")
        return "its forward binarizes its weights", scale
    size = weight.abs()
    if torch.equal(size, size[:, :1].expand_as(size)) and bool((size > 0).all()):
        return "its weights are signs times a factor a column", size[:, 0].float().clone()
    zeros = int((weight == 0).sum())
    return "the signs of its real weights" + (f", {zeros} of them 0, which count as +1" if zeros else ""), ones


def check_finite(module: nn.Module) -> None:
    """Refuse parameters that are not finite.

    Raises:
        InputError: Naming the parameter.
    """
    for what, values in module.named_parameters():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"its {what} has values that are not finite")


def check_norm(module: Norm, pending: Pending) -> None:
    """Refuse a batch norm that does not fit the weights before it.

    Raises:
        InputError: It is for other shapes or columns, or has no finite running statistics.
    """
    if isinstance(module, nn.BatchNorm2d) != pending.conv:
        raise InputError("a batch norm is BatchNorm2d after a convolution and BatchNorm1d after a dense layer")
    if module.num_features != pending.columns:
        raise InputError(f"it takes {module.num_features} columns, {pending.columns} come")
    if module.running_mean is None or module.running_var is None:
        raise InputError("it has no running statistics")
    for what, values in module.state_dict().items():
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"its {what} has values that are not finite")


def binary_of(module: Weighted) -> BinaryLinear | BinaryConv2d:
    """The same layer with latent weights."""
    if isinstance(module, BinaryLinear | BinaryConv2d):
        return plain(module)
    weight = module.weight.detach().float().clamp(-1.0, 1.0)
    if isinstance(module, nn.Linear):
        return BinaryLinear(weight)
    assert isinstance(module, nn.Conv2d)
    _check_conv(module)
    return BinaryConv2d(weight, stride=pair(module.stride), padding=padding_of(module))


def real_of(module: nn.Linear | nn.Conv2d | RealLinear | RealConv2d) -> RealLinear | RealConv2d:
    """The same layer with its real weights."""
    if isinstance(module, RealLinear | RealConv2d):
        return copy.deepcopy(module)
    weight = module.weight.detach().float().clone()
    if isinstance(module, nn.Linear):
        return RealLinear(weight)
    _check_conv(module)
    return RealConv2d(weight, stride=pair(module.stride), padding=padding_of(module))


def _check_conv(module: nn.Conv2d) -> None:
    if module.groups != 1 or pair(module.dilation) != (1, 1) or module.padding_mode != "zeros":
        raise InputError(
            f"a convolution must have groups 1, dilation 1 and padding of zeros, "
            f"it has {module.groups}, {module.dilation} and {module.padding_mode!r}"
        )


def average_of(module: Average) -> tuple[nn.AvgPool2d | GlobalAverage, bool]:
    """The module that averages as a packed network does, and whether it pads."""
    if isinstance(module, nn.AdaptiveAvgPool2d):
        if module.output_size not in (1, (1, 1), [1, 1]):
            raise InputError(f"an adaptive average must be of the whole map, output_size 1, got {module.output_size}")
        return GlobalAverage(), False
    if isinstance(module, GlobalAverage):
        return GlobalAverage(), False
    padded = any(pair(module.padding))
    if module.ceil_mode or module.divisor_override is not None or (padded and not module.count_include_pad):
        raise InputError("an average must count its padding, and have neither ceil_mode nor divisor_override")
    return copy.deepcopy(module), padded


def affine_norm_of(norm: Norm) -> AffineNorm1d | AffineNorm2d:
    """The same batch norm, whose eval mode is a scale and an offset."""
    kind = AffineNorm2d if isinstance(norm, nn.BatchNorm2d) else AffineNorm1d
    twin = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    twin.load_state_dict(norm.state_dict())
    return twin


def padding_of(module: nn.Conv2d) -> tuple[int, int]:
    """A convolution's padding, the same on both sides."""
    kernel = pair(module.kernel_size)
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        if any(size % 2 == 0 for size in kernel):
            raise InputError(f'padding "same" with an even kernel {kernel} is not the same on both sides')
        return (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
    padding = pair(module.padding)
    if any(pad >= size for pad, size in zip(padding, kernel, strict=True)):
        raise InputError(f"padding must be smaller than the kernel {kernel}, got {padding}")
    return padding


def merged_of(norm: Norm, pending: Pending) -> Norm:
    """A batch norm of the bare sums that equals `norm` of the sums times a factor plus a bias."""
    kind = nn.BatchNorm2d if isinstance(norm, nn.BatchNorm2d) else nn.BatchNorm1d
    kind = type(norm) if gives_reals(norm) else kind  # A norm of sums that were read becomes a plain one again.
    merged = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    merged.load_state_dict(norm.state_dict(), strict=False)
    assert norm.running_mean is not None
    assert merged.running_mean is not None
    scale, bias = pending.scale.double(), pending.bias.double()
    with torch.no_grad():
        merged.running_mean.copy_((norm.running_mean.double() - bias) / scale)
        merged.weight.copy_(merged.weight.double() * scale)
    return merged
