"""The networks of recipes that are no plain chain: residual blocks, real first and last layers, averages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.window import PadValue, Pool, Window
from cosim.training.binary import BinaryLinear, ClassAffine
from cosim.training.convolutional import BinaryConv2d
from cosim.training.graph import Graph, GraphLayer
from cosim.training.real import AffineNorm1d, AffineNorm2d, GlobalAverage, RealConv2d, RealLinear
from cosim.training.recipe import Block, Convolution, TrainingRecipe

Shape = tuple[int, int, int]


def graph_network(recipe: TrainingRecipe, image_shape: Sequence[int], classes: int) -> Graph:
    """The network of a recipe before training, as a graph of layers.

    A block is two 3x3 convolutions of signs, the first with the block's stride. The batch norm of each is added to the
    stream that it took the signs of and clipped to -1..1; where stride or channels change, the stream is a 1x1
    convolution of its signs and batch norm (as in IR-Net, CVPR 2020, and PR-CIM).

    Raises:
        InputError: A kernel or pooling is larger than its map; the number of the convolution or block is the place.
    """
    height, width, channels = (*image_shape, 1)[:3]
    builder = _Builder(recipe, (channels, height, width), torch.Generator().manual_seed(recipe.seed))
    for number, convolution in enumerate(recipe.convolution, start=1):
        builder.convolution(convolution, number)
    number = 0
    for block in recipe.block:
        for index in range(block.count):
            number += 1
            builder.block(block, number, block.stride if index == 0 else 1)
    if recipe.global_average:
        builder.average()
    for number, width in enumerate(recipe.hidden, start=1):
        builder.dense(f"dense{number}", recipe.scaled(width))
    builder.last(f"dense{len(recipe.hidden) + 1}", classes)
    _check_options(recipe, builder.layers)
    return Graph(builder.layers)


def _check_options(recipe: TrainingRecipe, layers: Sequence[GraphLayer]) -> None:
    """Refuse options that no layer has."""
    binary = [isinstance(layer.weights, BinaryLinear | BinaryConv2d) for layer in layers]
    taken = [layer.input != "real" for layer in layers[1:]]
    for name, given, used in (
        ("weight_bits", recipe.weight_bits > 1, any(binary)),
        ("activation_bits", recipe.activation_bits > 1, any(taken)),
        ("activations", recipe.activations != "binary", any(taken)),
        ("scale_inputs", recipe.scale_inputs, any(layer.scale_inputs for layer in layers)),
    ):
        if given and not used:
            raise InputError(f"{name} has no layer to act on: all weights are real or take real numbers")


@dataclass(slots=True)
class _Builder:
    """Layers added one after the other; `shape` is that of the last one's output."""

    recipe: TrainingRecipe
    shape: Shape
    generator: torch.Generator
    layers: list[GraphLayer] = field(default_factory=list[GraphLayer])

    def convolution(self, c: Convolution, number: int) -> None:
        """A convolution; the last before blocks or an average gives a real stream, one of real weights too."""
        columns, first = self.recipe.scaled(c.channels), number == 1
        real = first and self.recipe.first == "real"
        stream = real or (
            number == len(self.recipe.convolution) and (bool(self.recipe.block) or self.recipe.global_average)
        )
        padding = c.padding, c.padding
        pad_value = 0 if first else c.pad_value
        try:
            window = Window(self.shape, (c.kernel, c.kernel), (c.stride, c.stride), padding, pad_value)
            pool = Pool((c.pool, c.pool), (c.pool, c.pool), (0, 0), c.pool_of, c.pool_kind) if c.pool > 1 else None
            size = window.out_size if pool is None else pool.window(*window.out_size).out_size
        except InputError as error:
            raise InputError(error.message, place=f"convolution {number}", hint=error.hint) from error
        weight = self._weight(real, columns, self.shape[0], c.kernel, c.kernel)
        self._add(
            f"conv{number}",
            self._conv(weight, c.stride, padding, pad_value, real=real),
            (AffineNorm2d if stream or self.recipe.scale_inputs else nn.BatchNorm2d)(columns),
            pool=None if pool is None else _pool_module(pool),
            pool_of=c.pool_of,
            hard_tanh=stream,
        )
        self.shape = (columns, *size)

    def block(self, block: Block, number: int, stride: int) -> None:
        """Two convolutions, each with its shortcut."""
        columns, channels = self.recipe.scaled(block.channels), self.shape[0]
        height, width = (-(-size // stride) for size in self.shape[1:])
        stream = self.layers[-1].name
        shortcut = stream
        if stride > 1 or columns != channels:
            shortcut = f"block{number}_0"
            one = self._conv(self._weight(False, columns, channels, 1, 1), stride, (0, 0))
            self._add(shortcut, one, AffineNorm2d(columns), source=stream)
        for half, (inputs, step) in enumerate(((channels, stride), (columns, 1)), start=1):
            conv = self._conv(self._weight(False, columns, inputs, 3, 3), step, (1, 1), block.pad_value)
            name = f"block{number}_{half}"
            about = {"source": stream, "shortcut": shortcut}
            self._add(name, conv, AffineNorm2d(columns), hard_tanh=True, **about)
            stream = shortcut = name
        self.shape = (columns, height, width)

    def average(self) -> None:
        """The average of the last layer's whole map."""
        if not self.layers or isinstance(self.layers[-1].weights, BinaryLinear | RealLinear):
            raise InputError("global_average needs a convolution or block before it")
        last = self.layers[-1]
        if last.pool is not None:
            raise InputError("the last convolution has a pooling already, global_average would be its second")
        last.pool, last.pool_of = GlobalAverage(), "outputs"
        self.shape = (self.shape[0], 1, 1)

    def dense(self, name: str, columns: int) -> None:
        """A hidden dense layer."""
        real = not self.layers and self.recipe.first == "real"
        weight = self._weight(real, columns, math.prod(self.shape))
        norm = (AffineNorm1d if real or self.recipe.scale_inputs else nn.BatchNorm1d)(columns)
        self._add(name, self._linear(real, weight), norm, hard_tanh=real)
        self.shape = (columns, 1, 1)

    def last(self, name: str, classes: int) -> None:
        """The logits; real weights take the real output of the layer before them where it has one."""
        inputs, real = math.prod(self.shape), self.recipe.last == "real"
        scale = torch.full((classes,), 1.0 if real else 1.0 / math.sqrt(inputs))
        weights = self._linear(real, self._weight(real, classes, inputs))
        takes_reals = real and bool(self.layers) and self.layers[-1].gives_reals
        affine = ClassAffine(scale, torch.zeros(classes))
        kind = "real" if takes_reals else self._input
        bits = self.recipe.activation_bits if self.layers else 1
        scaled = self._scales(weights)
        self.layers.append(
            GraphLayer(name, weights, affine=affine, input=kind, activation_bits=bits, scale_inputs=scaled)
        )

    @property
    def _input(self) -> Literal["binary", "on_off"]:
        """What a layer that takes no real numbers takes; the first takes the pixels."""
        return self.recipe.activations if self.layers else "binary"

    def _scales(self, weights: BinaryLinear | BinaryConv2d | RealLinear | RealConv2d) -> bool:
        return self.recipe.scale_inputs and bool(self.layers) and isinstance(weights, BinaryLinear | BinaryConv2d)

    def _conv(
        self, weight: Tensor, stride: int, padding: tuple[int, int], pad_value: PadValue = 0, *, real: bool = False
    ) -> BinaryConv2d | RealConv2d:
        steps = stride, stride
        if real:
            return RealConv2d(weight, stride=steps, padding=padding, pad_value=pad_value)
        bits = self.recipe.weight_bits
        return BinaryConv2d(weight, stride=steps, padding=padding, pad_value=pad_value, bits=bits)

    def _linear(self, real: bool, weight: Tensor) -> BinaryLinear | RealLinear:
        return RealLinear(weight) if real else BinaryLinear(weight, self.recipe.weight_bits)

    def _add(
        self,
        name: str,
        weights: BinaryLinear | BinaryConv2d | RealLinear | RealConv2d,
        norm: nn.BatchNorm1d | nn.BatchNorm2d,
        **options: object,
    ) -> None:
        bits = self.recipe.activation_bits
        options |= {"activation_bits": bits if self.layers else 1, "output_bits": bits}
        options |= {"scale_inputs": self._scales(weights), "input": self._input}
        self.layers.append(GraphLayer(name, weights, norm=norm, **options))  # pyright: ignore[reportArgumentType]

    def _weight(self, real: bool, *shape: int) -> Tensor:
        """First weights: latent ones as the recipe says, real ones within one over the root of their number."""
        spread = 1.0 / math.sqrt(math.prod(shape[1:])) if real else self.recipe.initial_spread
        return (torch.rand(shape, generator=self.generator) * 2.0 - 1.0) * spread


def _pool_module(pool: Pool) -> nn.MaxPool2d | nn.AvgPool2d:
    return (nn.MaxPool2d if pool.kind == "max" else nn.AvgPool2d)(pool.size)
