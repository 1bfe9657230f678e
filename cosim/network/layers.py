"""Binary dense networks: packed weights, and batch norm folded into a threshold or an affine map."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, UInt64

from cosim.errors import InputError
from cosim.network.packing import padding_is_clear, unpack_signs, words_for

PIXEL_MAX = 255
_SUM_LIMIT = 2**30
_NAME = re.compile(r"[A-Za-z0-9][\w.\-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """Output +1 iff direction * sum >= direction * value, else -1.

    Direction 0 makes the column constantly +1; a constant -1 is direction 1 with a value out of reach.

    Attributes:
        value: Threshold in MAC units (pixel units for a layer that takes pixels), (column,).
        direction: -1, 0 or +1, (column,).
    """

    value: Int32[np.ndarray, " column"]
    direction: Int8[np.ndarray, " column"]

    def __post_init__(self) -> None:
        """Refuse wrong shapes, types and directions."""
        _expect_array("value", self.value, np.int32, (self.value.size,))
        _expect_array("direction", self.direction, np.int8, self.value.shape)
        if np.any(np.abs(self.direction) > 1):
            raise InputError("direction must be -1, 0 or 1")


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """Output sum * scale + offset in float32, rounded after the product and after the sum.

    Attributes:
        scale: Factor of one MAC unit, (column,).
        offset: Value at sum 0, (column,).
    """

    scale: Float32[np.ndarray, " column"]
    offset: Float32[np.ndarray, " column"]

    def __post_init__(self) -> None:
        """Refuse wrong shapes and types and values that are not finite."""
        _expect_array("scale", self.scale, np.float32, (self.scale.size,))
        _expect_array("offset", self.offset, np.float32, self.scale.shape)

    def apply(self, sums: Float32[np.ndarray, "image column"]) -> Float32[np.ndarray, "image column"]:
        """The outputs for sums in MAC units."""
        return sums * self.scale + self.offset


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """The batch norm that a threshold was folded from, kept to rebuild the network elsewhere.

    Attributes:
        gamma: Factor, (column,).
        beta: Offset, (column,).
        mean: Running mean, (column,).
        variance: Running variance, positive with epsilon, (column,).
        epsilon: Added to the variance.
    """

    gamma: Float32[np.ndarray, " column"]
    beta: Float32[np.ndarray, " column"]
    mean: Float32[np.ndarray, " column"]
    variance: Float32[np.ndarray, " column"]
    epsilon: float

    def __post_init__(self) -> None:
        """Refuse wrong shapes and types, values that are not finite and a negative variance."""
        for name in ("gamma", "beta", "mean", "variance"):
            _expect_array(name, getattr(self, name), np.float32, (self.gamma.size,))
        if not (np.isfinite(self.epsilon) and np.all(self.variance + np.float32(self.epsilon) > 0)):
            raise InputError("variance + epsilon must be positive")


@dataclass(frozen=True, slots=True, eq=False)
class DenseLayer:
    """A fully connected layer with weights +1 and -1.

    Attributes:
        name: Unique in its network.
        input: "pixels": raw 8-bit pixels, summed digitally and exactly; "binary": +1 and -1, summed by the
            circuit.
        in_features: Number of inputs.
        packed: Weights as bits, 1 is +1, least significant first, padding bits 0; (column, word).
        output: Threshold (a binary output) or Affine (logits).
        batch_norm: What `output` was folded from, if it is known.
    """

    name: str
    input: Literal["pixels", "binary"]
    in_features: int
    packed: UInt64[np.ndarray, "column word"]
    output: Threshold | Affine
    batch_norm: BatchNorm | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, padding bits that are set and unknown kinds.

        Raises:
            InputError: With the layer's name as the place.
        """
        try:
            self._check()
        except InputError as error:
            raise InputError(error.message, place=f"layer {self.name}", hint=error.hint) from None

    @property
    def out_features(self) -> int:
        """The number of columns."""
        return self.packed.shape[0]

    @property
    def weights(self) -> Int8[np.ndarray, "column row"]:
        """The weights as +1 and -1."""
        return unpack_signs(self.packed, self.in_features)

    @property
    def reach(self) -> int:
        """The largest magnitude of an exact sum."""
        return self.in_features * (PIXEL_MAX if self.input == "pixels" else 1)

    def _check(self) -> None:
        if self.input not in ("pixels", "binary"):
            raise InputError(f'input must be "pixels" or "binary", got {self.input!r}')
        if self.in_features < 1 or 2 * self.reach > _SUM_LIMIT:
            raise InputError(f"in_features must be positive and sums below 2**29, got {self.in_features}")
        columns = self.packed.shape[0] if self.packed.ndim else 0
        _expect_array("packed", self.packed, np.uint64, (columns, words_for(self.in_features)))
        if not padding_is_clear(self.packed, self.in_features):
            raise InputError(f"padding bits after input {self.in_features} of packed weights must be 0")
        norm = None if self.batch_norm is None else self.batch_norm.gamma
        folded = self.output.value if isinstance(self.output, Threshold) else self.output.scale
        for name, values in (("output", folded), ("batch norm", norm)):
            if values is not None and len(values) != columns:
                raise InputError(f"{name} has {len(values)} columns, the weights have {columns}")


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers in order; the first takes pixels, the last gives one logit a class.

    Attributes:
        name: The network's name; it and the layers' names become file names: letters, digits and _ . -
        layers: One to many layers.
        classes: Number of logits.
        image_shape: Shape of one image.
        provenance: What the network was made from (data, seed, versions), free text by key.
    """

    name: str
    layers: tuple[DenseLayer, ...]
    classes: int
    image_shape: tuple[int, ...] = (28, 28)
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])

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
        for before, after in pairwise(self.layers):
            place = f"layer {after.name}"
            if after.input != "binary":
                raise InputError('only the first layer takes "pixels"', place=place)
            if not isinstance(before.output, Threshold):
                raise InputError("every layer but the last needs a threshold", place=f"layer {before.name}")
            if after.in_features != before.out_features:
                raise InputError(
                    f"{after.in_features} inputs, but layer {before.name} has {before.out_features} columns",
                    place=place,
                )

    @property
    def in_features(self) -> int:
        """The number of pixels."""
        return self.layers[0].in_features

    @property
    def binary_layers(self) -> tuple[DenseLayer, ...]:
        """The layers whose partial sums the circuit reads."""
        return tuple(layer for layer in self.layers if layer.input == "binary")

    def _check_ends(self) -> None:
        first, last = self.layers[0], self.layers[-1]
        if first.input != "pixels":
            raise InputError('the first layer must take "pixels"', place=f"layer {first.name}")
        if int(np.prod(self.image_shape)) != first.in_features:
            raise InputError(
                f"{first.in_features} inputs, but an image has the shape {tuple(self.image_shape)}",
                place=f"layer {first.name}",
            )
        if not isinstance(last.output, Affine):
            raise InputError("the last layer needs an affine output", place=f"layer {last.name}")
        if last.out_features != self.classes:
            raise InputError(f"{last.out_features} logits for {self.classes} classes", place=f"layer {last.name}")


def _expect_array(name: str, values: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if values.dtype != dtype or values.shape != shape or values.size == 0:
        raise InputError(
            f"{name} must be {np.dtype(dtype).name} of shape {shape} and not empty, "
            f"got {values.dtype.name} of shape {values.shape}"
        )
    if not np.all(_finite(values)):
        raise InputError(f"{name} has values that are not finite")


def _finite(values: np.ndarray) -> Bool[np.ndarray, "*any"]:
    return np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, np.bool_)
