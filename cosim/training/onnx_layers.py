"""Conv, MatMul, Gemm and MaxPool nodes as the modules of a binary network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import nn

from cosim.errors import InputError
from cosim.network.window import PadValue, Pool, Window
from cosim.training.binary import BinaryLinear
from cosim.training.convolutional import BinaryConv2d
from cosim.training.onnx_file import Array, Node
from cosim.training.onnx_values import Pixels, Signs, Sums, Value, map_of


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A layer's weights.

    Attributes:
        module: Their signs.
        factor: What each column's signs are multiplied by.
        count: Sum of each column's signs.
        places: Of the layer's sums.
    """

    module: BinaryConv2d | BinaryLinear
    factor: Float64[np.ndarray, " column"]
    count: Float64[np.ndarray, " column"]
    places: Array


def weights_of(node: Node, weight: Array | None, value: Pixels | Signs, size: float, shift: float) -> Weights:
    """A layer of weights that are +-1 times a factor a column.

    Args:
        size, shift: What comes is size times +-1 or pixels, plus the shift.

    Raises:
        InputError: The weights are no constants or of other values, or the node has an option without simulation.
    """
    if weight is None or weight.dtype.kind != "f" or not weight.size:
        raise InputError("its second input must be weights, constant real numbers", place=node.place)
    if node.op == "Conv":
        return _convolution(node, weight, value, size, shift)
    signs, factor = _signs(_dense(node, weight, value), node)
    return Weights(BinaryLinear(torch.from_numpy(signs)), factor, _count(signs), np.arange(len(signs)))


def bias_of(node: Node, bias: Array | None, columns: int) -> Float64[np.ndarray, " column"]:
    """A layer's bias, one a column.

    Raises:
        InputError: It has another size.
    """
    if bias is None:
        return np.zeros(columns)
    if bias.size not in (1, columns):
        raise InputError(f"a bias of shape {bias.shape} for {columns} columns", place=node.place)
    return np.broadcast_to(np.ravel(bias), columns).astype(np.float64)


def max_pool_of(node: Node, value: Sums | Signs) -> tuple[nn.MaxPool2d, Array]:
    """The pooling, and the places of what it gives.

    Raises:
        InputError: It has an option without simulation, or its input is no map.
    """
    shape, border = map_of(value, node)
    if any(border):
        raise InputError("it takes a map with a padding of its own", place=node.place)
    _refuse_options(node, {"ceil_mode": 0, "storage_order": 0})
    kernel = _pair(node, "kernel_shape", (0, 0))
    stride = _pair(node, "strides", (1, 1))
    padding = _pads(node, shape[1:], kernel, stride)
    try:
        size = Pool(kernel, stride, padding).window(*shape[1:]).out_size
    except InputError as error:
        raise InputError(error.message, place=node.place) from error
    return nn.MaxPool2d(kernel, stride, padding), _places(shape[0], size)


def _convolution(node: Node, weight: Array, value: Pixels | Signs, size: float, shift: float) -> Weights:
    if weight.ndim != 4:
        raise InputError(f"weights of shape {weight.shape}, expected two axes of a kernel", place=node.place)
    shape, border = map_of(value, node)
    _refuse_options(node, {"group": 1})
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    if _pair(node, "kernel_shape", kernel) != kernel or weight.shape[1] != shape[0]:
        raise InputError(f"weights of shape {weight.shape} on a map of {shape}", place=node.place)
    stride = _pair(node, "strides", (1, 1))
    own = _pads(node, shape[1:], kernel, stride)
    if any(own) and any(border):
        raise InputError("a padding of its own, and one before it", place=node.place)
    padding = own if any(own) else border
    fill = 0.0 if any(own) else value.fill
    pad_value = _pad_value(node, value, (fill - shift) / size) if any(padding) else 0
    try:
        window = Window(shape, kernel, stride, padding, pad_value)
    except InputError as error:
        raise InputError(error.message, place=node.place) from error
    signs, factor = _signs(weight, node)
    module = BinaryConv2d(torch.from_numpy(signs), stride=stride, padding=padding, pad_value=pad_value)
    return Weights(module, factor, _count(signs), _places(len(signs), window.out_size))


def _pad_value(node: Node, value: Pixels | Signs, stands_for: float) -> PadValue:
    """What a padding holds in units of a sign, or of a pixel."""
    expected = (0.0,) if isinstance(value, Pixels) else (-1.0, 0.0, 1.0)
    if stands_for not in expected:
        raise InputError(
            f"a padding that stands for {stands_for:g}, expected {' or '.join(f'{each:g}' for each in expected)} "
            f"of a {'pixel' if isinstance(value, Pixels) else 'sign'}",
            place=node.place,
        )
    return cast(PadValue, int(stands_for))


def _dense(node: Node, weight: Array, value: Value) -> Array:
    """Weights of shape (column, input), inputs in torch's order."""
    _refuse_options(node, {"alpha": 1.0, "beta": 1.0, "transA": 0})
    if weight.ndim != 2 or value.places.ndim != 1:
        raise InputError(
            f"weights of shape {weight.shape} on {value.places.ndim} axes besides the images, expected two and one",
            place=node.place,
        )
    weight = weight if node.attributes.get("transB", 0) == 1 else weight.T
    if weight.shape[1] != value.places.size or value.places.min() < 0:
        raise InputError(f"it takes {weight.shape[1]} inputs, {value.places.size} come", place=node.place)
    if isinstance(value, Pixels) and not np.array_equal(value.places, np.arange(value.places.size)):
        raise InputError("a dense first layer takes the pixels in their own order", place=node.place)
    ordered = np.empty_like(weight)
    ordered[:, value.places] = weight
    return ordered


def _signs(weight: Array, node: Node) -> tuple[Float32[np.ndarray, "column ..."], Float64[np.ndarray, " column"]]:
    """Signs and a factor a column; a column of zeros is one of +1 with the factor 0."""
    size = np.abs(weight.reshape(len(weight), -1).astype(np.float64))
    factor = size[:, 0].copy()
    if not bool((size == factor[:, None]).all()):
        column = int(np.argmax((size != factor[:, None]).any(axis=1)))
        raise InputError(
            f"its weights are not +-1 times a factor a column: column {column} has magnitudes from "
            f"{size[column].min():g} to {size[column].max():g}",
            place=node.place,
        )
    return np.where(weight >= 0, np.float32(1), np.float32(-1)), factor


def _count(signs: Float32[np.ndarray, "column ..."]) -> Float64[np.ndarray, " column"]:
    return signs.reshape(len(signs), -1).sum(axis=1, dtype=np.float64)


def _places(columns: int, size: tuple[int, int]) -> Array:
    return np.arange(columns * size[0] * size[1]).reshape(columns, *size)


def _pair(node: Node, name: str, default: tuple[int, int]) -> tuple[int, int]:
    value = node.attributes.get(name, default)
    if not isinstance(value, tuple) or len(value) != 2:
        raise InputError(f"{name} must be two whole numbers, got {value}", place=node.place)
    return int(value[0]), int(value[1])


def _pads(node: Node, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """Padding above and below, left and right."""
    _refuse_options(node, {"dilations": (1, 1)})
    mode = node.attributes.get("auto_pad", "NOTSET")
    given = node.attributes.get("pads", (0, 0, 0, 0))
    if not isinstance(given, tuple) or len(given) != 4:
        raise InputError(f"pads must be four whole numbers, got {given}", place=node.place)
    top, left, bottom, right = (int(each) for each in given)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        places = zip(size, kernel, stride, strict=True)
        whole = [max((-(-n // max(step, 1)) - 1) * step + k - n, 0) for n, k, step in places]
        before = [each // 2 if mode == "SAME_UPPER" else -(-each // 2) for each in whole]
        (top, left), (bottom, right) = before, [w - b for w, b in zip(whole, before, strict=True)]
    elif mode == "VALID":
        top = left = bottom = right = 0
    elif mode != "NOTSET":
        raise InputError(f"auto_pad {mode!r} is not known", place=node.place)
    if (top, left) != (bottom, right):
        raise InputError(
            f"a padding of {top}, {left} above and left and {bottom}, {right} below and right, expected the same",
            place=node.place,
        )
    return top, left


def _refuse_options(node: Node, expected: dict[str, object]) -> None:
    """Refuse options of another value than the only one that is simulated."""
    for name, value in expected.items():
        if name in node.attributes and node.attributes[name] != value:
            raise InputError(f"{name} must be {value}, got {node.attributes[name]}", place=node.place)
