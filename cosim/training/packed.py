"""From a trained torch network to a packed `Network`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layers import PIXEL_MAX, Affine, BatchNorm, ConvLayer, DenseLayer, Network, Pool, Threshold, Window
from cosim.network.packing import pack_bits
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.fold import fold
from cosim.training.pixel_sign import without_pixel_sign

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Weights = BinaryLinear | BinaryConv2d

_PASSED_OVER = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_EXPECTED = (
    "a layer must be BinaryLinear or BinaryConv2d, BatchNorm and Sign, a convolution also with a MaxPool2d before "
    "BatchNorm or next to Sign; the last layer must be BinaryLinear or BinaryConv2d and ClassAffine"
)


@dataclass(frozen=True, slots=True)
class Group:
    """The modules that become one layer.

    Attributes:
        name: Of the module with the weights.
        weights: That module.
        norm: Batch norm; None in the last layer.
        affine: The last layer's scale and offset.
        pool: Max pooling.
        pool_of: "sums" before the batch norm, "outputs" after it.
    """

    name: str
    weights: Weights
    norm: Norm | None
    affine: ClassAffine | None
    pool: nn.MaxPool2d | None
    pool_of: Literal["sums", "outputs"]


def export(
    module: nn.Sequential,
    *,
    name: str,
    image_shape: tuple[int, ...] = (28, 28),
    provenance: Mapping[str, str] | None = None,
) -> Network:
    """The packed network of a trained module: signs as bits, batch norm folded into thresholds.

    Args:
        module: (BinaryLinear, BatchNorm1d, Sign) or (BinaryConv2d, BatchNorm2d, Sign) for every layer but the last,
            with a MaxPool2d before the norm or next to the sign of a convolution; then (BinaryLinear, ClassAffine).
            nn.Flatten may stand before a dense layer, nn.Hardtanh or nn.Tanh before a sign, nn.Dropout anywhere. The
            first layer takes 8-bit pixels, or +-1 after a PixelSign, the others +-1.
        name: Name of the network.
        image_shape: Rows, columns and, for colours, channels of an image.
        provenance: Where the network comes from, kept with it.

    Raises:
        InputError: The modules are others or in another order, a parameter is not finite, or shapes do not fit.
    """
    layers: list[DenseLayer] = []
    module, threshold = without_pixel_sign(module)
    height, width, channels = (*image_shape, 1, 1)[:3]
    shape = (channels, height, width)
    for group in groups(module):
        try:
            layers.append(_layer(group, shape, _layer_name(group, layers), first=not layers and threshold is None))
        except InputError as error:
            place = error.place or f"module {group.name}"
            raise InputError(error.message, place=place, hint=error.hint) from error
        shape = layers[-1].out_shape
    if not layers or not isinstance(layers[-1].output, Affine):
        raise InputError(_EXPECTED)
    return Network(name, tuple(layers), layers[-1].out_features, image_shape, dict(provenance or {}), threshold)


def groups(module: nn.Sequential) -> list[Group]:
    """The module's children, those of one layer together; a nested nn.Sequential counts as its children.

    Raises:
        InputError: A module that belongs to no layer, or one in the wrong place.
    """
    found: list[Group] = []
    remaining = [each for each in _flat(module, "") if not isinstance(each[1], _PASSED_OVER)]
    while remaining:
        group, used = _group(remaining)
        found.append(group)
        remaining = remaining[used:]
    return found


def _flat(module: nn.Sequential, prefix: str) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        inner = _flat(child, f"{prefix}{name}.") if isinstance(child, nn.Sequential) else [(f"{prefix}{name}", child)]
        found += inner
    return found


def _group(modules: Sequence[tuple[str, nn.Module]]) -> tuple[Group, int]:
    """The layer that begins with the first module, and of how many modules it is made."""
    (name, weights), rest = modules[0], [module for _, module in modules[1:]]
    at = 0

    def take(*types: type[nn.Module]) -> nn.Module | None:
        nonlocal at
        if at < len(rest) and isinstance(rest[at], types):
            at += 1
            return rest[at - 1]
        return None

    before = take(nn.MaxPool2d)
    norm = take(nn.BatchNorm1d, nn.BatchNorm2d)
    affine = None if norm else take(ClassAffine)
    after = take(nn.MaxPool2d) if norm else None
    clipped = take(nn.Hardtanh, nn.Tanh) if norm else None
    after = after or (take(nn.MaxPool2d) if clipped else None)
    sign = take(Sign) if norm else None
    after = after or (take(nn.MaxPool2d) if sign else None)
    whole = isinstance(weights, Weights) and (sign if norm else affine and at == len(rest))
    if not whole or (before and after):
        names = ", ".join(type(module).__name__ for _, module in modules[: at + 2])
        raise InputError(f"{_EXPECTED}; got ({names})", place=f"module {name}")
    assert isinstance(weights, BinaryLinear | BinaryConv2d)
    assert norm is None or isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert affine is None or isinstance(affine, ClassAffine)
    pool = before or after
    assert pool is None or isinstance(pool, nn.MaxPool2d)
    return Group(name, weights, norm, affine, pool, "sums" if before else "outputs"), at + 1


def _layer(group: Group, shape: tuple[int, int, int], name: str, *, first: bool) -> DenseLayer:
    weight = array(group.weights.weight, "weight")
    kind: Literal["pixels", "binary"] = "pixels" if first else "binary"
    reach = int(np.prod(weight.shape[1:])) * (PIXEL_MAX if first else 1)
    output, norm = _output(group, reach)
    if isinstance(group.weights, BinaryLinear):
        if group.pool is not None:
            raise InputError("a dense layer cannot have a MaxPool2d")
        return DenseLayer(name, kind, weight.shape[1], pack_bits(weight >= 0), output, norm)
    conv = group.weights
    if weight.shape[1] != shape[0]:
        raise InputError(f"the convolution takes {weight.shape[1]} channels, the map before it has {shape[0]}")
    pad_value = conv.pad_value if any(conv.padding) else 0
    window = Window(shape, (weight.shape[2], weight.shape[3]), conv.stride, conv.padding, pad_value)
    packed = pack_bits(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1) >= 0)
    pool = None if group.pool is None else _pool(group.pool, group.pool_of)
    return ConvLayer(name, kind, window.in_features, packed, output, norm, window=window, pool=pool)


def _output(group: Group, reach: int) -> tuple[Threshold | Affine, BatchNorm | None]:
    if group.affine is not None:
        return Affine(array(group.affine.scale, "scale"), array(group.affine.offset, "offset")), None
    assert group.norm is not None
    if group.norm.num_features != len(group.weights.weight):
        raise InputError(
            f"batch norm is of {group.norm.num_features} columns, the weights have {len(group.weights.weight)}"
        )
    return fold(group.norm, reach), norm_arrays(group.norm)


def _pool(module: nn.MaxPool2d, of: Literal["sums", "outputs"]) -> Pool:
    if pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise InputError("MaxPool2d must have dilation 1, and neither ceil_mode nor return_indices")
    return Pool(pair(module.kernel_size), pair(module.stride), pair(module.padding), of)


def pair(size: object) -> tuple[int, int]:
    """A torch size, one number or two, as two."""
    if isinstance(size, int):
        return size, size
    assert isinstance(size, Sequence)
    down, right = (int(each) for each in size)
    return down, right


def norm_arrays(norm: Norm) -> BatchNorm:
    """The arrays of a batch norm."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return BatchNorm(
        array(norm.weight, "weight of the batch norm"),
        array(norm.bias, "bias of the batch norm"),
        array(norm.running_mean, "running_mean"),
        array(norm.running_var, "running_var"),
        norm.eps,
    )


def array(tensor: Tensor, name: str) -> np.ndarray:
    """A parameter as float32.

    Raises:
        InputError: A value is not finite.
    """
    values = tensor.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{name} has values that are not finite", hint="train again with a lower learning rate")
    return values


def _layer_name(group: Group, before: Sequence[DenseLayer]) -> str:
    """The module's own name, or its kind and number where torch has only numbered it."""
    if not group.name.isdigit() and re.fullmatch(r"[A-Za-z0-9][\w.\-]{0,99}", group.name, re.ASCII):
        return group.name
    conv = isinstance(group.weights, BinaryConv2d)
    number = 1 + sum(isinstance(layer, ConvLayer) == conv for layer in before)
    return f"conv{number}" if conv else f"dense{number}"
