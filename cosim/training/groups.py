"""The modules of one layer together, which `export` makes a layer of: those of an nn.Sequential or of a `Graph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from cosim.errors import InputError
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.graph import Graph, GraphLayer
from cosim.training.kept import KeptLayer
from cosim.training.levels import Levels
from cosim.training.pixel_sign import PixelSign
from cosim.training.real import AffineNorm1d, AffineNorm2d, GlobalAverage, RealConv2d, RealLinear

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Weights = BinaryLinear | BinaryConv2d | RealLinear | RealConv2d
Pooling = nn.MaxPool2d | nn.AvgPool2d | GlobalAverage

_PASSED_OVER = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
EXPECTED = (
    "a layer must be BinaryLinear or BinaryConv2d, BatchNorm and Sign, a convolution also with a MaxPool2d before "
    "BatchNorm or next to Sign; the last layer must be BinaryLinear or BinaryConv2d and ClassAffine"
)


@dataclass(frozen=True, slots=True)
class Group:
    """The modules that become one layer.

    Attributes:
        name: Of the module with the weights.
        weights: That module.
        norm: Batch norm; None in the last layer. An AffineNorm gives a real output.
        affine: The last layer's scale and offset.
        pool: Max or average pooling.
        pool_of: "sums" before the batch norm, "outputs" after it.
        input: What it takes of the layer before it: its signs ("binary"; "on_off" as 1 and 0), or its real output.
        source: Name of the layer that it takes it from; "" for the one before.
        shortcut: Name of the layer whose real output is added; "" for none.
        hard_tanh: Whether a real output is clipped to -1..1.
        activation_bits: Bits of what it takes.
        output_bits: Bits of what it gives, where that is not real.
        scale_inputs: Whether its sums are multiplied by the mean magnitude of their inputs.
    """

    name: str
    weights: Weights
    norm: Norm | None
    affine: ClassAffine | None
    pool: Pooling | None
    pool_of: Literal["sums", "outputs"]
    input: Literal["binary", "on_off", "real"] = "binary"
    source: str = ""
    shortcut: str = ""
    hard_tanh: bool = False
    activation_bits: int = 1
    output_bits: int = 1
    scale_inputs: bool = False


def groups(module: nn.Sequential | Graph) -> list[Group]:
    """The module's children, those of one layer together; a nested nn.Sequential counts as its children.

    Raises:
        InputError: A module that belongs to no layer, or one in the wrong place.
    """
    if isinstance(module, Graph):
        return [_of_graph(layer) for layer in module.graph_layers]
    found: list[Group] = []
    remaining = [each for each in _flat(module, "") if not isinstance(each[1], _PASSED_OVER)]
    bits = 1
    while remaining:
        group, used, bits = _group(remaining, bits)
        found.append(group)
        remaining = remaining[used:]
    return found


def without_pixel_sign(module: nn.Sequential | Graph) -> tuple[nn.Sequential | Graph, int | None]:
    """The network without its first module where that is a `PixelSign` (of a `Graph`: as it is), and the threshold."""
    if isinstance(module, Graph):
        return module, None if module.pixels is None else int(module.pixels.threshold)
    children = list(module.named_children())
    if not children or not isinstance(children[0][1], PixelSign):
        return module, None
    rest = nn.Sequential()
    for name, child in children[1:]:
        rest.add_module(name, child)
    return rest, int(children[0][1].threshold)


def gives_reals(norm: nn.Module | None) -> bool:
    """Whether a batch norm is one whose result is a real output."""
    return isinstance(norm, AffineNorm1d | AffineNorm2d)


def _of_graph(layer: GraphLayer | KeptLayer) -> Group:
    if isinstance(layer, KeptLayer):
        hint = "convert(model, real=[...]) packs real weights"
        raise InputError("it is kept in floating point, which is not packed", place=f"module {layer.name}", hint=hint)
    about = (layer.name, layer.weights, layer.norm, layer.affine, layer.pool, layer.pool_of)
    about = (*about, layer.input, layer.source, layer.shortcut, layer.hard_tanh)
    return Group(*about, layer.activation_bits, layer.output_bits, layer.scale_inputs)


def _flat(module: nn.Sequential, prefix: str) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        inner = _flat(child, f"{prefix}{name}.") if isinstance(child, nn.Sequential) else [(f"{prefix}{name}", child)]
        found += inner
    return found


@dataclass(slots=True)
class _Reader:
    """Takes modules one after the other where they are of the kinds asked for."""

    modules: Sequence[nn.Module]
    at: int = 0

    def take(self, *types: type[nn.Module]) -> nn.Module | None:
        if self.at < len(self.modules) and isinstance(self.modules[self.at], types):
            self.at += 1
            return self.modules[self.at - 1]
        return None


def _group(modules: Sequence[tuple[str, nn.Module]], bits: int) -> tuple[Group, int, int]:
    """The layer that begins with the first module, of how many modules it is made, and the bits of what it gives.

    `bits` are those of what it takes, 0 of a real output.
    """
    (name, weights), reader = modules[0], _Reader([module for _, module in modules[1:]])
    before = reader.take(nn.MaxPool2d, nn.AvgPool2d, GlobalAverage)
    norm = reader.take(nn.BatchNorm1d, nn.BatchNorm2d)
    affine = None if norm else reader.take(ClassAffine)
    tail = _Tail()
    if norm is not None:
        tail = _real_tail(reader) if gives_reals(norm) else _binary_tail(reader)
    whole = isinstance(weights, Weights) and (tail.whole if norm else affine and reader.at == len(reader.modules))
    if not whole or (before and tail.pool):
        names = ", ".join(type(module).__name__ for _, module in modules[: reader.at + 2])
        raise InputError(f"{EXPECTED}; got ({names})", place=f"module {name}")
    assert isinstance(weights, Weights)
    assert norm is None or isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert affine is None or isinstance(affine, ClassAffine)
    pool = before or tail.pool
    assert pool is None or isinstance(pool, Pooling)
    group = Group(
        name,
        weights,
        norm,
        affine,
        pool,
        "sums" if before else "outputs",
        "binary" if bits else "real",
        hard_tanh=tail.hard_tanh,
        activation_bits=max(1, bits),
        output_bits=tail.own,
    )
    _check_fit(group)
    return group, reader.at + 1, tail.bits


def _check_fit(group: Group) -> None:
    """Refuse weights whose batch norm or inputs are of another kind."""
    weights, place = group.weights, f"module {group.name}"
    real = isinstance(weights, RealLinear | RealConv2d)
    if real and group.norm is not None and not gives_reals(group.norm):
        raise InputError("a layer of real weights needs an AffineNorm in the place of a BatchNorm", place=place)
    if group.input == "real" and not real:
        raise InputError("binary weights take signs: a Sign must stand before them", place=place)
    if isinstance(weights, BinaryConv2d | RealConv2d) and weights.input_bits != group.activation_bits:
        raise InputError(f"input_bits is {weights.input_bits}, but {group.activation_bits} come", place=place)


@dataclass(slots=True)
class _Tail:
    """What follows a batch norm; `bits` of what it gives are 0 of a real output, `own` are those before an average."""

    pool: nn.Module | None = None
    hard_tanh: bool = False
    bits: int = 0
    whole: bool = False
    own: int = 1


def _binary_tail(reader: _Reader) -> _Tail:
    """A tanh, which changes no sign, the sign, and a pooling; an average may have a sign after it."""
    pool = reader.take(nn.MaxPool2d)
    clipped = reader.take(nn.Hardtanh, nn.Tanh)
    pool = pool or (reader.take(nn.MaxPool2d) if clipped else None)
    bits = _bits(reader.take(Sign, Levels))
    if bits > 1 and clipped is not None and not _is_hard(clipped):
        raise InputError(f"before Levels there may be nn.Hardtanh() alone, got {clipped}")
    pool = pool or (reader.take(nn.MaxPool2d, nn.AvgPool2d, GlobalAverage) if bits else None)
    averaged = isinstance(pool, nn.AvgPool2d | GlobalAverage)
    return _Tail(pool, False, _bits(reader.take(Sign, Levels)) if averaged else bits, bits > 0, max(1, bits))


def _real_tail(reader: _Reader) -> _Tail:
    """A hard tanh, a pooling of the real output, and the sign where the next layer takes that.

    A tanh of another kind has no effect where only the sign of the output is taken, and stands nowhere else.
    """
    pool = reader.take(nn.MaxPool2d)
    clipped = reader.take(nn.Hardtanh, nn.Tanh)
    pool = pool or reader.take(nn.MaxPool2d, nn.AvgPool2d, GlobalAverage)
    bits = _bits(reader.take(Sign, Levels))
    hard = _is_hard(clipped)
    if clipped is not None and not hard and (bits != 1 or isinstance(pool, nn.AvgPool2d | GlobalAverage)):
        raise InputError(f"a real output is clipped by nn.Hardtanh() alone, got {clipped}")
    return _Tail(pool, hard, bits, True)


def _is_hard(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Hardtanh) and (module.min_val, module.max_val) == (-1.0, 1.0)


def _bits(module: nn.Module | None) -> int:
    """Bits of what a sign or quantizer gives; 0 for neither."""
    if module is None:
        return 0
    return module.bits if isinstance(module, Levels) else 1
