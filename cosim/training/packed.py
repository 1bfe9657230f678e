"""From a trained torch network to a packed `Network`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layers import (
    PIXEL_MAX,
    Affine,
    BatchNorm,
    ConvLayer,
    DenseLayer,
    Network,
    Pool,
    Quantizer,
    Residual,
    Threshold,
    Window,
    affine_of,
)
from cosim.network.packing import pack_bits
from cosim.training.binary import BinaryLinear
from cosim.training.convolutional import BinaryConv2d
from cosim.training.fold import fold, fold_levels
from cosim.training.graph import Graph
from cosim.training.groups import EXPECTED, Group, Norm, Pooling, gives_reals, groups, without_pixel_sign
from cosim.training.levels import levels_of
from cosim.training.real import GlobalAverage, RealConv2d, RealLinear


def export(
    module: nn.Sequential | Graph,
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
            first layer takes 8-bit pixels, or +-1 after a PixelSign, the others +-1. RealLinear and RealConv2d have
            real weights, and with AffineNorm a layer's output is real; `Levels` in the place of Sign gives several
            bits; nn.AvgPool2d or GlobalAverage may stand where a MaxPool2d does, or after a real output. Or a `Graph`,
            whose layers may have shortcuts too.
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
    shapes = {"": shape}
    for group in groups(module):
        try:
            layer_name = group.name if isinstance(module, Graph) else _layer_name(group, layers)
            layers.append(_layer(group, shapes[group.source], layer_name, first=not layers and threshold is None))
        except InputError as error:
            place = error.place or f"module {group.name}"
            raise InputError(error.message, place=place, hint=error.hint) from error
        shapes[""] = shapes[group.name] = layers[-1].out_shape
    if not layers or not isinstance(layers[-1].output, Affine):
        raise InputError(EXPECTED)
    return Network(name, tuple(layers), layers[-1].out_features, image_shape, dict(provenance or {}), threshold)


def _layer(group: Group, shape: tuple[int, int, int], name: str, *, first: bool) -> DenseLayer:
    weight = array(group.weights.weight, "weight")
    bits = 1 if isinstance(group.weights, RealLinear | RealConv2d) else group.weights.bits
    kind = "pixels" if first else group.input
    real = isinstance(group.weights, RealLinear | RealConv2d)
    if isinstance(group.weights, BinaryLinear | RealLinear):
        if group.pool is not None:
            raise InputError(f"a dense layer cannot have a {type(group.pool).__name__}")
        output, norm = _output(group, weight.shape[1] * _highest(group, bits, first=first), 1)
        about = (name, kind, weight.shape[1], _packed(weight, bits), output, norm, group.source, bits)
        return DenseLayer(
            *about,
            real_weights=weight if real else None,
            activation_bits=1 if first else _input_bits(group),
            scale_inputs=group.scale_inputs,
        )
    conv = group.weights
    if weight.shape[1] != shape[0]:
        raise InputError(f"the convolution takes {weight.shape[1]} channels, the map before it has {shape[0]}")
    pad_value = conv.pad_value if any(conv.padding) else 0
    window = Window(shape, (weight.shape[2], weight.shape[3]), conv.stride, conv.padding, pad_value)
    flat = np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1))
    pool = None if group.pool is None else _pool(group.pool, group.pool_of, window.out_size)
    taps = pool.taps if pool is not None and (pool.of, pool.kind) == ("sums", "average") else 1
    output, norm = _output(group, window.in_features * _highest(group, bits, first=first), taps)
    about = (name, kind, window.in_features, _packed(flat, bits), output, norm, group.source, bits)
    return ConvLayer(
        *about,
        real_weights=flat if real else None,
        activation_bits=1 if first else _input_bits(group),
        scale_inputs=group.scale_inputs,
        window=window,
        pool=pool,
    )


def _input_bits(group: Group) -> int:
    return 1 if group.input == "real" else group.activation_bits


def _highest(group: Group, bits: int, *, first: bool) -> int:
    """The largest magnitude of a product."""
    return (PIXEL_MAX if first else 2**group.activation_bits - 1) * (2**bits - 1)


def _packed(weight: Float[np.ndarray, "column input"], bits: int) -> UInt64[np.ndarray, "bit_column word"]:
    """Weights as bits, all columns of the lowest first."""
    if bits == 1:
        return pack_bits(weight >= 0)
    levels = levels_of(torch.from_numpy(weight), bits).numpy()
    return pack_bits(np.concatenate([(levels >> bit & 1).astype(np.bool_) for bit in range(bits)]))


def _output(group: Group, reach: int, taps: int) -> tuple[Threshold | Quantizer | Affine | Residual, BatchNorm | None]:
    """What follows the sums, whose magnitude is at most `reach`; `taps` of them are added and averaged."""
    if group.affine is not None:
        return Affine(array(group.affine.scale, "scale"), array(group.affine.offset, "offset")), None
    assert group.norm is not None
    if group.norm.num_features != len(group.weights.weight):
        raise InputError(
            f"batch norm is of {group.norm.num_features} columns, the weights have {len(group.weights.weight)}"
        )
    norm = norm_arrays(group.norm)
    if gives_reals(group.norm):
        return Residual(*affine_of(norm), group.shortcut, group.hard_tanh), norm
    if group.output_bits > 1:
        return fold_levels(group.norm, reach * taps, taps, group.output_bits), norm
    return fold(group.norm, reach * taps, taps), norm


def _pool(module: Pooling, of: Literal["sums", "outputs"], size: tuple[int, int]) -> Pool:
    """A pooling over maps of a size."""
    if isinstance(module, GlobalAverage):
        return Pool(size, size, (0, 0), of, "average")
    if isinstance(module, nn.AvgPool2d):
        kernel, padding = pair(module.kernel_size), pair(module.padding)
        padded = any(padding) and not module.count_include_pad
        if module.ceil_mode or padded or module.divisor_override is not None:
            raise InputError("AvgPool2d must count its padding, and have neither ceil_mode nor divisor_override")
        return Pool(kernel, pair(module.stride), padding, of, "average")
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
    conv = isinstance(group.weights, BinaryConv2d | RealConv2d)
    number = 1 + sum(isinstance(layer, ConvLayer) == conv for layer in before)
    return f"conv{number}" if conv else f"dense{number}"
