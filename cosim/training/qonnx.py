"""Binary networks from ONNX files: QONNX of Brevitas, and what tf2onnx makes of Larq's layers."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from cosim.errors import InputError, UnsafeError
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.onnx_file import BYTES_MAX, Array, Node, OnnxGraph, read_onnx, single
from cosim.training.onnx_layers import bias_of, max_pool_of, weights_of
from cosim.training.onnx_operators import COMPUTED, VALUE_BY_VALUE, check_inputs, clip_bounds, compute
from cosim.training.onnx_values import (
    Pixels,
    Signs,
    Sums,
    Value,
    moved,
    padded,
    per_column,
    pixel_threshold,
    size_of_signs,
    straight_line,
)
from cosim.training.pixel_sign import PixelSign

_MOVING = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_COMPARES = {"Greater": (0, 0, 1), "GreaterOrEqual": (0, 1, 1), "Less": (1, 0, 0), "LessOrEqual": (1, 1, 0)}
_TURNED = {"Greater": "Less", "GreaterOrEqual": "LessOrEqual", "Less": "Greater", "LessOrEqual": "GreaterOrEqual"}
_LAYERS = ("Conv", "MatMul", "Gemm", "MaxPool", "Pad", "BatchNormalization", "Tanh")
_FAR = 2.0**30  # Beyond any sum.


def load_qonnx(path: str | Path, *, pixel_scale: float = 1.0, pixel_offset: float = 0.0) -> nn.Sequential:
    """The binary network of an ONNX file, as `convert` makes one: `export` packs it, `convert` gives it a surrogate.

    Read are BipolarQuant (and Quant of constants and pixels) of QONNX, Sign and comparisons with Where or Cast, Conv,
    MatMul, Gemm, BatchNormalization, MaxPool, Pad, arithmetic with constants, and what moves axes. All weights must be
    +-1 times a factor a column. Arithmetic between two layers becomes a batch norm, computed in float64 and rounded
    once; so a sum that the file's own float32 arithmetic puts on the other side of 0 may differ. A plain Sign gives 0
    for 0, which becomes +1.
    Nothing in the file is executed.

    Args:
        pixel_scale, pixel_offset: The graph's own input is pixel * pixel_scale + pixel_offset of a pixel 0..255:
            1 / 255 and 0 after torchvision's ToTensor. The result takes pixels 0..255: (image, channel, row, column),
            or for a dense first layer (image, pixel).

    Raises:
        InputError: onnx is not installed, the file is damaged, or a node has no simulation; its name is the place.
        UnsafeError: Its tensors lie in other files.
    """
    graph = read_onnx(path)
    try:
        return _Walk(graph).network(pixel_scale, pixel_offset)
    except (InputError, UnsafeError) as error:
        place = f"{path}: {error.place}" if error.place else str(path)
        raise type(error)(error.message, place=place, hint=error.hint) from error


@dataclass(slots=True)
class _Walk:
    """The graph from its input to its output, and the modules made so far.

    Attributes:
        constants: Arrays by name, those that were computed among them.
        modules: Made so far.
        number: Of the layer.
        dense: Whether the layer is no convolution.
        has_pool: Whether the layer has its pooling.
        pool: A pooling that stands between the layer's batch norm and its sign.
    """

    graph: OnnxGraph
    constants: dict[str, Array] = field(init=False)
    modules: OrderedDict[str, nn.Module] = field(default_factory=OrderedDict[str, nn.Module])
    number: int = 0
    dense: bool = False
    has_pool: bool = False
    pool: nn.MaxPool2d | None = None
    bytes: int = 0

    def network(self, pixel_scale: float, pixel_offset: float) -> nn.Sequential:
        """All of it."""
        self.constants = dict(self.graph.constants)
        values: dict[str, Value] = {self.graph.input: self._image(pixel_scale, pixel_offset)}
        takes = Counter(name for node in self.graph.nodes if node.op != "Shape" for name in set(node.inputs))
        for node in self.graph.nodes:
            if any(name and name not in values and name not in self.constants for name in node.inputs):
                raise InputError("it takes what nothing gives", place=node.place)
            check_inputs(node, self.constants.__contains__)
            here = [values[name] for name in node.inputs if name in values]
            if len(here) > 1:
                raise InputError("it takes two values that depend on the image: no shortcuts", place=node.place)
            if not here:
                self.constants[node.output] = self._constant(node)
                continue
            if node.op == "Shape":
                self.constants[node.output] = np.array([0, *here[0].places.shape])
                continue
            for name in node.inputs:
                if name in values and takes[name] > 1:
                    raise InputError(f"{takes[name]} nodes take {name}: no shortcuts", place=node.place)
            values[node.output] = self._after(node, here[0])
        return self._finished(values.get(self.graph.output))

    def _image(self, scale: float, offset: float) -> Pixels:
        shape = self.graph.shape[1:]
        if not shape or min(shape) < 1 or np.prod([float(each) for each in shape]) > BYTES_MAX:
            raise InputError(f"the input has the shape {self.graph.shape}: all sizes but the first must be stated")
        if not np.isfinite([scale, offset]).all() or scale <= 0:
            raise InputError(f"pixel_scale must be positive and pixel_offset a number, got {scale} and {offset}")
        grid = np.arange(256, dtype=np.float32) * np.float32(scale) + np.float32(offset)
        return Pixels(places=np.arange(int(np.prod(shape))).reshape(shape), grid=grid)

    def _given(self, node: Node) -> list[Array | None]:
        """A node's inputs where they are constants, None for others and for those left out."""
        return [self.constants.get(name) for name in node.inputs]

    def _constant(self, node: Node) -> Array:
        result = compute(node, self._given(node))
        self.bytes += result.nbytes
        if self.bytes > 4 * BYTES_MAX:
            raise InputError("its constants grow beyond all measure", place=node.place)
        return result

    def _after(self, node: Node, value: Value) -> Value:
        """What a node makes of a value."""
        if node.op in _MOVING:
            return moved(value, node, self._given(node)[1:], self.graph.shape[0])
        if node.op in ("Identity", "Dropout"):
            return value
        if node.op in ("Softmax", "LogSoftmax") and node.output == self.graph.output:
            return value
        if node.op == "Pad" and not isinstance(value, Sums):
            return self._pad(node, value)
        if node.op == "MaxPool" and not isinstance(value, Pixels):
            return self._max_pool(node, value)
        if node.op in ("Conv", "MatMul", "Gemm") and not isinstance(value, Sums):
            return self._layer(node, value)
        if isinstance(value, Sums):
            return self._sums(node, value)
        if node.op in VALUE_BY_VALUE:
            return self._one_by_one(node, value)
        raise _no_simulation(node)

    def _one_by_one(self, node: Node, value: Pixels | Signs) -> Value:
        """Arithmetic on all numbers that a pixel can be, or a sign."""
        own = value.grid if isinstance(value, Pixels) else value.three
        given = self._given(node)
        if any(each is not None and each.size != 1 for each in given):
            raise InputError("on images and signs, constants must be single numbers", place=node.place)
        inputs = [
            own if each is None and name else each.reshape(()) if each is not None else None
            for each, name in zip(given, node.inputs, strict=True)
        ]
        result = compute(node, inputs).reshape(own.shape)
        if value.places.min() < 0:
            raise InputError("it stands between a padding and its layer", place=node.place)
        return replace(value, grid=result) if isinstance(value, Pixels) else replace(value, three=result)

    def _pad(self, node: Node, value: Pixels | Signs) -> Value:
        given = self._given(node)
        pads = given[1] if len(given) > 1 else np.array(node.attributes.get("pads", ()))
        if node.attributes.get("mode", "constant") != "constant" or pads is None or len(node.inputs) > 3:
            raise InputError("only a padding by a constant", place=node.place)
        stated = given[2] if len(given) > 2 and given[2] is not None else node.attributes.get("value", 0.0)
        return padded(value, node, np.ravel(pads).astype(np.int64), single(stated, node, "value"))

    def _layer(self, node: Node, value: Pixels | Signs) -> Sums:
        """A convolution or a dense layer."""
        given = self._given(node)
        first = not self.number
        size, shift = self._size(node, value)
        found = weights_of(node, given[1] if len(given) > 1 else None, value, size, shift)
        columns = len(found.factor)
        offset = bias_of(node, given[2] if len(given) > 2 else None, columns) + shift * found.factor * found.count
        self.number, self.has_pool, self.pool = self.number + 1, False, None
        dense = isinstance(found.module, BinaryLinear)
        if dense and (first or not self.dense):
            self.modules["flatten"] = nn.Flatten()
        self.dense = dense
        self.modules[f"{'dense' if dense else 'conv'}{self.number}"] = found.module
        return Sums(places=found.places, scale=found.factor * size, offset=offset)

    def _size(self, node: Node, value: Pixels | Signs) -> tuple[float, float]:
        """What stands for +1 of a sign, or for a pixel of 1, and what is added to it; perhaps a threshold of pixels."""
        if isinstance(value, Signs):
            return size_of_signs(value, node), 0.0
        if node.op != "Conv" and len(self.graph.shape) == 4 and 1 not in self.graph.shape[1:]:
            raise InputError("a dense first layer takes an image of one channel", place=node.place)
        threshold = pixel_threshold(value)
        if threshold is None:
            return straight_line(value, node)
        self.modules["pixels"] = PixelSign(threshold[0])
        return threshold[1], 0.0

    def _max_pool(self, node: Node, value: Sums | Signs) -> Value:
        if self.has_pool:
            raise InputError("a layer has one pooling", place=node.place)
        module, places = max_pool_of(node, value)
        self.has_pool = True
        if isinstance(value, Sums) and bool((value.scale < 0).any()):
            self.pool = module  # The largest number is not the largest sum: it must wait for the batch norm.
            return replace(value, places=places, pooled=True)
        if isinstance(value, Signs) and size_of_signs(value, node) < 0:
            raise InputError("a pooling of signs that are turned round", place=node.place)
        self.modules[f"pool{self.number}"] = module
        return replace(value, places=places)

    def _sums(self, node: Node, value: Sums) -> Value:
        """Arithmetic with constants, or a sign."""
        at = next(i for i, name in enumerate(node.inputs) if self.constants.get(name) is None and name)
        given = self._given(node)
        others = [each for i, each in enumerate(given) if i != at and each is not None]
        if node.op in ("Sign", "BipolarQuant"):
            size = others[0] if others else np.array(1.0)
            if size.size != 1:
                raise InputError("a sign has one factor for all columns", place=node.place)
            three = compute(node, [np.array([-1.0, 0.0, 1.0]), size.reshape(())][: len(node.inputs)])
            return self._sign(node, value, three)
        if node.op in _COMPARES and len(others) == 1:
            op = node.op if at == 0 else _TURNED[node.op]
            less = replace(value, offset=value.offset - per_column(value, others[0], node))
            return self._sign(node, less, np.array(_COMPARES[op], bool))
        if node.op in ("Clip", "Min", "Max", "Tanh"):
            return self._clipped(node, value, given, others)
        if value.clipped or (node.op == "Div" and at):
            raise _no_simulation(node)
        return self._moved_line(node, value, others, at)

    def _clipped(self, node: Node, value: Sums, given: list[Array | None], others: list[Array]) -> Sums:
        """What does not change the sign: a hard tanh in any form, a tanh."""
        low, high = -1.0, 1.0
        if node.op == "Clip":
            low, high = clip_bounds(node, given)
        elif node.op != "Tanh":
            bounds = np.concatenate([np.ravel(each) for each in others])
            low, high = (-1.0, float(bounds.min())) if node.op == "Min" else (float(bounds.max()), 1.0)
        if not low < 0 < high:
            raise InputError(f"{node.op} changes signs", place=node.place)
        return replace(value, clipped=True)

    def _moved_line(self, node: Node, value: Sums, others: list[Array], at: int) -> Sums:
        """scale and offset after arithmetic with constants."""
        scale, offset = value.scale, value.offset
        if node.op == "BatchNormalization":
            epsilon = single(node.attributes.get("epsilon", 1e-5), node, "epsilon")
            channels = [each.reshape(-1, *[1] * (value.places.ndim - 1)) for each in others]
            gamma, beta, mean, variance = (per_column(value, each, node) for each in channels)
            if bool((variance + epsilon <= 0).any()) or node.attributes.get("training_mode", 0):
                raise InputError("its variance must be positive, and training_mode 0", place=node.place)
            factor = gamma / np.sqrt(variance + epsilon)
            scale, offset = scale * factor, (offset - mean) * factor + beta
        elif node.op == "Neg":
            scale, offset = -scale, -offset
        elif node.op == "Cast" and node.attributes.get("to") in (1, 10, 11):
            pass
        elif node.op in ("Add", "Sub", "Mul", "Div") and len(others) == 1:
            constant = per_column(value, others[0], node)
            if node.op == "Sub" and at:
                scale, offset = -scale, constant - offset
            elif node.op in ("Add", "Sub"):
                offset = offset + (constant if node.op == "Add" else -constant)
            else:
                if node.op == "Div" and not constant.all():
                    raise InputError("it divides by 0", place=node.place)
                factor = constant if node.op == "Mul" else 1 / constant
                scale, offset = scale * factor, offset * factor
        else:
            raise _no_simulation(node)
        if value.pooled and not np.array_equal(np.sign(scale), np.sign(value.scale)):
            raise InputError("a factor after a pooling turns its numbers round", place=node.place)
        return replace(value, scale=scale, offset=offset)

    def _sign(self, node: Node, value: Sums, three: Array) -> Signs:
        """Batch norm, perhaps a pooling, and sign."""
        zero = np.divide(-value.offset, value.scale, where=value.scale != 0, out=np.zeros(len(value.scale)))
        norm = (nn.BatchNorm1d if self.dense else nn.BatchNorm2d)(len(zero), eps=0.0)
        state = {
            "weight": value.scale,
            "bias": np.where(value.scale == 0, value.offset, 0.0),
            "running_mean": zero.clip(-_FAR, _FAR),
        }
        norm.load_state_dict({name: _tensor(each) for name, each in state.items()}, strict=False)
        self.modules[f"norm{self.number}"] = norm
        if self.pool is not None:
            self.modules[f"pool{self.number}"] = self.pool
        self.modules[f"sign{self.number}"] = Sign()
        return Signs(places=value.places, three=three)

    def _finished(self, value: Value | None) -> nn.Sequential:
        """The network with its last scale and offset."""
        if not isinstance(value, Sums) or not self.dense or value.clipped or value.places.ndim != 1:
            raise InputError("the output must be real numbers of a dense layer, one a class", place="output")
        self.modules["affine"] = ClassAffine(_tensor(value.scale), _tensor(value.offset))
        return nn.Sequential(self.modules).eval()


def _no_simulation(node: Node) -> InputError:
    known = " here" if node.op in _LAYERS or node.op in COMPUTED else ""
    return InputError(f"{node.op} has no simulation{known}", place=node.place)


def _tensor(values: Float64[np.ndarray, " column"]) -> Tensor:
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    if not np.isfinite(short).all():
        raise InputError("a scale or an offset of a layer is beyond float32")
    return torch.from_numpy(short)
