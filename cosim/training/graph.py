"""Networks whose layers take their inputs from any earlier one: shortcuts, real streams, poolings of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.kept import KeptLayer
from cosim.training.levels import Levels
from cosim.training.pixel_sign import PixelSign
from cosim.training.real import AffineNorm1d, AffineNorm2d, GlobalAverage, RealConv2d, RealLinear, input_scales


class GraphLayer(nn.Module):
    """One layer: weights, pooling, then batch norm (or the last scale and offset), shortcut, hard tanh, pooling.

    With a plain BatchNorm its output is binary; with an AffineNorm it is real, and a layer after it takes its signs or,
    where the weights are real, its numbers.

    Args:
        name: Its name, by which others take its output.
        weights: The weights.
        norm: Batch norm; None in the last layer.
        affine: Scale and offset of the last layer.
        pool: Pooling.
        pool_of: Of the "sums" or of the "outputs".
        input: "binary": signs; "on_off": 1 in the place of +1 and 0 in that of -1; "real": numbers.
        source: The layer whose output it takes; "" for the one before.
        shortcut: The layer whose output is added to a real output; "" for none.
        hard_tanh: Whether a real output is clipped to -1..1.
        activation_bits: Bits of its inputs, where they are no real numbers.
        output_bits: Bits of its outputs, where they are not real.
        scale_inputs: Whether its sums are multiplied by K of XNOR-Net, see `cosim.training.real.input_scales`.
    """

    def __init__(
        self,
        name: str,
        weights: BinaryLinear | BinaryConv2d | RealLinear | RealConv2d,
        *,
        norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
        affine: ClassAffine | None = None,
        pool: nn.MaxPool2d | nn.AvgPool2d | GlobalAverage | None = None,
        pool_of: Literal["sums", "outputs"] = "sums",
        input: Literal["binary", "on_off", "real"] = "binary",
        source: str = "",
        shortcut: str = "",
        hard_tanh: bool = False,
        activation_bits: int = 1,
        output_bits: int = 1,
        scale_inputs: bool = False,
    ) -> None:
        """Keep them.

        Raises:
            InputError: Neither or both of norm and affine, or options that do not fit each other.
        """
        super().__init__()
        self.name, self.weights, self.norm, self.affine, self.pool = name, weights, norm, affine, pool
        self.pool_of: Literal["sums", "outputs"] = pool_of
        self.input: Literal["binary", "on_off", "real"] = input
        self.source, self.shortcut, self.hard_tanh = source, shortcut, hard_tanh
        self.activation_bits, self.output_bits, self.scale_inputs = activation_bits, output_bits, scale_inputs
        if isinstance(weights, BinaryConv2d | RealConv2d):
            weights.input_bits = 1 if input == "real" else activation_bits
        self.real = isinstance(norm, AffineNorm1d | AffineNorm2d)
        try:
            self._check()
        except InputError as error:
            raise InputError(error.message, place=f"layer {name}", hint=error.hint) from None

    @property
    def gives_reals(self) -> bool:
        """Whether what it gives is real, and not signs already."""
        return self.real or (self.pool_of == "outputs" and isinstance(self.pool, nn.AvgPool2d | GlobalAverage))

    def forward(
        self,
        x: Float[Tensor, "image ..."],
        added: Float[Tensor, "image ..."] | None,
        before: Float[Tensor, "image ..."] | None = None,
    ) -> Tensor:
        """The output for inputs that are signs or numbers already.

        Args:
            x: The inputs.
            added: The shortcut's output.
            before: The numbers whose signs the inputs are, where sums are scaled by their magnitude.
        """
        dense = isinstance(self.weights, BinaryLinear | RealLinear)
        sums = self.weights(x.flatten(1) if dense else x)
        if before is not None:
            sums = sums.float() * self._scales(before)
        if self.pool is not None and self.pool_of == "sums":
            sums = self.pool(sums)
        if self.affine is not None:
            return self.affine(sums.flatten(1))
        outputs = cast(nn.Module, self.norm)(sums)
        if added is not None:
            outputs = outputs + added
        if not self.real:
            outputs = activation(self.output_bits)(outputs)
        elif self.hard_tanh:
            outputs = nn.functional.hardtanh(outputs)
        return self.pool(outputs) if self.pool is not None and self.pool_of == "outputs" else outputs

    def extra_repr(self) -> str:
        """Name, and what it takes, for printing."""
        about = f"{self.name}, input={self.input}" + (f", source={self.source}" if self.source else "")
        return about + (f", shortcut={self.shortcut}" if self.shortcut else "") + ", hard_tanh" * self.hard_tanh

    def _check(self) -> None:
        if (self.norm is None) == (self.affine is None):
            raise InputError("a layer needs a batch norm, or a scale and offset")
        if (self.shortcut or self.hard_tanh) and not self.real:
            raise InputError("a shortcut or a hard tanh needs a real output, an AffineNorm")
        if self.output_bits > 1 and self.gives_reals and not self.real:
            raise InputError("outputs of several bits have max pooling")
        signs = isinstance(self.weights, BinaryLinear | BinaryConv2d) and self.input == "binary"
        if self.scale_inputs and not (signs and self.activation_bits == 1 and (self.real or self.affine is not None)):
            raise InputError(
                "scale_inputs is for binary weights on signs, with an AffineNorm or a last scale and offset"
            )

    def _scales(self, before: Float[Tensor, "image ..."]) -> Float[Tensor, "image 1 ..."]:
        """K at every position, (image, 1, row, place), or (image, 1) of a dense layer."""
        maps, exact = before.float(), not self.training
        if isinstance(self.weights, BinaryConv2d):
            conv = self.weights
            down, right = conv.weight.shape[2:]
            pad_value = conv.pad_value
            return input_scales(maps, (down, right), conv.stride, conv.padding, pad_value, exact=exact)
        maps = maps[:, :, None, None] if maps.ndim == 2 else maps
        size = (maps.shape[2], maps.shape[3])
        return input_scales(maps, size, size, (0, 0), 0, exact=exact).flatten(1)


class Graph(nn.Module):
    """Layers in order, each of which takes the output of an earlier one; the first takes pixels 0..255.

    Args:
        layers: The layers.
        pixels: Makes signs of the pixels before the first layer; None where that takes the pixels themselves.
    """

    def __init__(self, layers: Sequence[GraphLayer | KeptLayer], pixels: PixelSign | None = None) -> None:
        """Keep the layers.

        Raises:
            InputError: Two layers of one name, or a source or shortcut that is no earlier layer.
        """
        super().__init__()
        self.pixels = pixels
        self.layers = nn.ModuleDict({f"layer{number}": layer for number, layer in enumerate(layers, start=1)})
        before: list[str] = []
        for layer in layers:
            for name in (layer.source, layer.shortcut):
                if name and name not in before:
                    raise InputError(f"no layer {name!r} before this one", place=f"layer {layer.name}")
            if layer.name in before:
                raise InputError("layer names must be unique", place=f"layer {layer.name}")
            self._check_scaled(layer, before)
            before.append(layer.name)

    def _check_scaled(self, layer: GraphLayer | KeptLayer, before: Sequence[str]) -> None:
        real = {each.name: each.gives_reals for each in self.graph_layers}
        source = layer.source or (before[-1] if before else "")
        if layer.scale_inputs and not (source and real[source]):
            raise InputError("scale_inputs needs a layer before it with a real output", place=f"layer {layer.name}")

    @property
    def graph_layers(self) -> list[GraphLayer | KeptLayer]:
        """The layers."""
        return [cast("GraphLayer | KeptLayer", layer) for layer in self.layers.values()]

    def outputs(self, x: Float[Tensor, "image ..."]) -> list[Tensor]:
        """What every layer gives; the last gives logits."""
        found: dict[str, Tensor] = {}
        real: dict[str, bool] = {}
        before = ""
        x = x if self.pixels is None else self.pixels(x)
        for layer in self.graph_layers:
            source = layer.source or before
            values = x
            if source or self.pixels is not None:
                values = _taken(layer, found[source] if source else x, cut=bool(source) and real[source])
            numbers = found[source] if layer.scale_inputs else None
            found[layer.name] = layer(values, found[layer.shortcut] if layer.shortcut else None, numbers)
            real[layer.name] = layer.gives_reals
            before = layer.name
        return list(found.values())

    def forward(self, x: Float[Tensor, "image ..."]) -> Float[Tensor, "image logit"]:
        """Logits of pixels, (image, channel, row, column), or (image, pixel) where the first layer is dense."""
        return self.outputs(x)[-1]


def activation(bits: int) -> Sign | Levels:
    """The module that makes activations of so many bits."""
    return Sign() if bits == 1 else Levels(bits)


def _taken(layer: GraphLayer | KeptLayer, values: Tensor, *, cut: bool) -> Tensor:
    """An earlier layer's output as a layer takes it; a real one is cut into levels."""
    if layer.input == "real":
        return values
    levels = activation(layer.activation_bits)(values) if cut else values
    return levels if layer.input == "binary" else (levels + (2**layer.activation_bits - 1)) / 2
