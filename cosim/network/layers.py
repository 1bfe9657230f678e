"""A network: layers in order, where each takes its inputs from, and whether they fit each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cosim.errors import InputError
from cosim.network.binary_layers import PIXEL_MAX, ConvLayer, DenseLayer
from cosim.network.levels import Quantizer
from cosim.network.outputs import Affine, BatchNorm, Residual, Support, Threshold, affine_of, dyadic, scaled
from cosim.network.window import Pool, Window, dense_window, whole_map

__all__ = [
    "PIXEL_MAX",
    "Affine",
    "BatchNorm",
    "ConvLayer",
    "DenseLayer",
    "Network",
    "Pool",
    "Quantizer",
    "Residual",
    "Support",
    "Threshold",
    "Window",
    "affine_of",
    "dyadic",
    "scaled",
]

IMAGE = -1
"""The source of the first layer."""

_NAME = re.compile(r"[A-Za-z0-9][\w.\-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers in order; the first takes the image, the last gives one logit a class.

    Attributes:
        name: The network's name; it and the layers' names become file names: letters, digits and _ . -
        layers: One to many layers.
        classes: Number of logits.
        image_shape: Shape of one image: (height, width), or (height, width, channel) as in `cosim.datasets`.
        provenance: What the network was made from (data, seed, versions), free text by key.
        pixel_threshold: Where the first layer takes no pixels: one is +1 from this value on, else -1 (or 0: off).
    """

    name: str
    layers: tuple[DenseLayer, ...]
    classes: int
    image_shape: tuple[int, ...] = (28, 28)
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    pixel_threshold: int | None = None

    def __post_init__(self) -> None:
        """Refuse names that are not plain and layers that do not fit each other.

        Raises:
            InputError: With the layer's name as the place.
        """
        for name in (self.name, *(layer.name for layer in self.layers)):
            if not _NAME.fullmatch(name):
                hint = "letters, digits and _ . - after a letter or digit, at most 100"
                raise InputError(f"a network or layer cannot be called {name[:120]!r}", hint=hint)
        if not self.layers:
            raise InputError("a network needs at least one layer", place=f"network {self.name}")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise InputError("layer names must be unique", place=f"network {self.name}")
        self._check_ends()
        for position, layer in enumerate(self.layers):
            try:
                self._check_layer(position, layer)
            except InputError as error:
                raise InputError(error.message, place=error.place or f"layer {layer.name}", hint=error.hint) from None
        self._check_all_are_used()

    @property
    def in_features(self) -> int:
        """The number of pixels of an image, its channels included."""
        return int(np.prod(self.image_shape))

    @property
    def binary_layers(self) -> tuple[DenseLayer, ...]:
        """The layers whose partial sums the circuit reads."""
        return tuple(layer for layer in self.layers if layer.reads_circuit)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image, as of any map."""
        height, width, channels = (*self.image_shape, 1, 1)[:3]
        return channels, height, width

    def source(self, position: int) -> int:
        """The position of the layer whose output the layer at `position` takes; `IMAGE` for the first.

        Raises:
            InputError: There is no such layer before it.
        """
        return self._earlier(self.layers[position].source, position) if position else IMAGE

    def shortcut(self, position: int) -> int | None:
        """The position of the layer whose real output is added to that of the layer at `position`.

        Raises:
            InputError: There is no such layer before it.
        """
        output = self.layers[position].output
        if not isinstance(output, Residual) or not output.shortcut:
            return None
        return self._earlier(output.shortcut, position)

    def window(self, position: int) -> Window:
        """Where the inputs of the layer at `position` lie; a dense layer after a map sees all of it at once."""
        layer, source = self.layers[position], self.source(position)
        if isinstance(layer, ConvLayer):
            return layer.window
        if source == IMAGE or self.layers[source].out_shape[1:] == (1, 1):
            return dense_window(layer.in_features)
        return whole_map(self.layers[source].out_shape)

    def _earlier(self, name: str, position: int) -> int:
        if not name:
            return position - 1
        names = [layer.name for layer in self.layers[:position]]
        if name not in names:
            raise InputError(f"no layer {name!r} before this one", hint=f"before it: {', '.join(names) or 'none'}")
        return names.index(name)

    def _check_ends(self) -> None:
        first, last = self.layers[0], self.layers[-1]
        place = f"layer {first.name}"
        if first.input == "pixels" and self.pixel_threshold is not None:
            raise InputError('pixel_threshold is for a first layer that takes "binary" or "on_off"', place=place)
        if first.input != "pixels" and not (self.pixel_threshold is not None and 1 <= self.pixel_threshold <= 255):
            raise InputError(
                f'the first layer must take "pixels", or pixel_threshold be 1 to 255, got {self.pixel_threshold}',
                place=place,
            )
        shape = tuple(self.image_shape)
        fits = first.in_features == self.in_features
        if isinstance(first, ConvLayer):
            fits = len(shape) in (2, 3) and first.window.in_shape == self.map_shape
        if not fits:
            raise InputError(f"{_takes(first)}, but an image has the shape {shape}", place=place)
        if first.source:
            raise InputError("the first layer takes the image, it can have no source", place=place)
        if first.scale_inputs:
            raise InputError("scale_inputs needs a layer before it with a real output", place=place)
        if first.activation_bits > 1:
            raise InputError(f"the pixels become one bit, got activation_bits {first.activation_bits}", place=place)
        if first.input == "real":
            raise InputError('the first layer takes the image, its input cannot be "real"', place=place)
        if not isinstance(last.output, Affine):
            raise InputError("the last layer needs an affine output", place=f"layer {last.name}")
        if last.out_shape != (self.classes, 1, 1):
            logits = "x".join(map(str, last.out_shape)).removesuffix("x1x1")
            raise InputError(f"{logits} logits for {self.classes} classes", place=f"layer {last.name}")

    def _check_layer(self, position: int, layer: DenseLayer) -> None:
        if position < len(self.layers) - 1 and isinstance(layer.output, Affine):
            raise InputError("every layer but the last needs a threshold, a quantizer or a residual output")
        if position and layer.input == "pixels":
            raise InputError('only the first layer takes "pixels"')
        shortcut = self.shortcut(position)
        if shortcut is not None:
            self._check_shortcut(layer, self.layers[shortcut])
        if position:
            self._check_source(layer, self.layers[self.source(position)])

    def _check_source(self, layer: DenseLayer, before: DenseLayer) -> None:
        shape = before.out_shape
        if layer.input == "real" and not before.gives_reals:
            raise InputError(f"it takes real inputs, but layer {before.name} gives signs")
        if layer.scale_inputs and not before.gives_reals:
            raise InputError(f"scale_inputs needs the numbers before the signs, but layer {before.name} gives signs")
        given = before.output_bits
        if layer.input in ("binary", "on_off") and layer.activation_bits != given and not before.gives_reals:
            raise InputError(f"activation_bits {layer.activation_bits}, but layer {before.name} gives {given} bits")
        if isinstance(layer, ConvLayer) and layer.window.in_shape != shape:
            raise InputError(f"{_takes(layer)}, but layer {before.name} gives {shape}")
        if layer.in_features != int(np.prod(shape)) and not isinstance(layer, ConvLayer):
            raise InputError(f"{_takes(layer)}, but layer {before.name} has {_gives(before)}")

    def _check_shortcut(self, layer: DenseLayer, other: DenseLayer) -> None:
        if not other.gives_reals:
            raise InputError(f"the shortcut from layer {other.name} needs a real output, it has a threshold")
        shape = (layer.out_features, *layer.sums_size)
        if other.out_shape != shape:
            raise InputError(f"the shortcut from layer {other.name} has the shape {other.out_shape}, not {shape}")

    def _check_all_are_used(self) -> None:
        used = {self.source(i) for i in range(len(self.layers))} | {self.shortcut(i) for i in range(len(self.layers))}
        for position, layer in enumerate(self.layers[:-1]):
            if position not in used:
                raise InputError("no layer takes its output", place=f"layer {layer.name}")


def _takes(layer: DenseLayer) -> str:
    return f"a map of {layer.window.in_shape}" if isinstance(layer, ConvLayer) else f"{layer.in_features} inputs"


def _gives(layer: DenseLayer) -> str:
    shape = layer.out_shape
    return f"{shape[0]} columns" if shape[1:] == (1, 1) else f"a map of {shape}"
