"""What flows through an imported ONNX graph: pixels, sums of a layer, signs; and where each of their numbers lies.

Where a number lies is tracked by `places`: an array of the shape that the graph's tensor has (without images), whose
entries are numbers of places in torch's order, channel by channel, row by row; -1 is padding. So whatever a graph does
to shapes and axes is done to `places`, and at a layer it is seen which input meets which weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from cosim.errors import InputError
from cosim.training.onnx_file import Array, Node
from cosim.training.onnx_operators import axes_of, compute

_STRAIGHT = 1e-5
"""Of the largest value: how far float32 arithmetic on pixels may be off a straight line."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pixels:
    """The image, after some arithmetic.

    Attributes:
        grid: What each pixel 0..255 has become.
    """

    places: Int64[np.ndarray, "..."]
    fill: float = 0.0
    grid: Shaped[np.ndarray, " pixel"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sums:
    """sum * scale + offset of the sums of a layer's signs, a column; perhaps clipped about 0.

    Attributes:
        pooled: Whether a pooling has been done on these numbers that is not one of the sums.
    """

    places: Int64[np.ndarray, "..."]
    fill: float = 0.0
    scale: Float64[np.ndarray, " column"]
    offset: Float64[np.ndarray, " column"]
    clipped: bool = False
    pooled: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Signs:
    """Numbers that tell a sign.

    Attributes:
        three: What stands for a number below 0, for 0 itself, and for one above 0.
    """

    places: Int64[np.ndarray, "..."]
    fill: float = 0.0
    three: Shaped[np.ndarray, "three"]


Value = Pixels | Sums | Signs


def moved(value: Value, node: Node, constants: Sequence[Array | None], batch: int) -> Value:
    """The value after an operator that only moves numbers.

    Raises:
        InputError: The operator touches the axis of the images, or does not fit.
    """
    places = value.places[None]
    if node.op == "Reshape":
        target = constants[0]
        wanted = [] if target is None else [int(each) for each in np.ravel(target)]
        if (
            not wanted
            or wanted[0] not in {-1, 0, 1, batch}
            or (wanted[0] == -1 and -1 in wanted[1:])
            or (node.attributes.get("allowzero", 0) and 0 in wanted[1:])
        ):
            raise InputError(f"a new shape of {wanted}, which does not keep the images apart", place=node.place)
        result = compute(node, [places, np.array([1, *wanted[1:]])])
    else:
        given = axes_of(node, constants[0] if constants else None) or ()
        first = given[:1] == (0,) if node.op == "Transpose" else bool(given) and min(given) > 0
        if node.op == "Flatten":
            first = node.attributes.get("axis", 1) == 1
        if not first:
            raise InputError("it moves the axis of the images", place=node.place)
        result = compute(node, [places, *constants])
    return replace(value, places=result[0])


def padded(value: Value, node: Node, pads: Array, fill: float) -> Value:
    """The value after a Pad by constants; `pads` are numbers before and after each axis, that of the images first."""
    axes = value.places.ndim + 1
    if pads.size != 2 * axes or pads.min() < 0 or pads[0] or pads[axes] or (value.places < 0).any():
        raise InputError("only a padding of rows and columns by nothing or more, once", place=node.place)
    if value.places.size * 9 < np.prod(
        [n + float(pads[1 + i] + pads[1 + i + axes]) for i, n in enumerate(value.places.shape)]
    ):
        raise InputError("its padding is larger than the map", place=node.place)
    around = [(int(pads[1 + i]), int(pads[1 + i + axes])) for i in range(axes - 1)]
    return replace(value, places=np.pad(value.places, around, constant_values=-1), fill=fill)


def map_of(value: Value, node: Node) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Channels, height and width of a map in torch's order without its padding, and the padding down and right.

    Raises:
        InputError: It is no map of channels, rows and columns in this order, or its padding is not the same on both
            sides.
    """
    places = value.places
    if places.ndim != 3:
        raise InputError(
            f"it takes {places.ndim} axes besides the images, expected channels, rows, columns", place=node.place
        )
    inside = places >= 0
    lines = [np.flatnonzero(inside.any(axis=tuple(set(range(3)) - {axis}))) for axis in range(3)]
    if not all(line.size for line in lines):
        raise InputError("a map of padding alone", place=node.place)
    before = [int(line[0]) for line in lines]
    after = [size - 1 - int(line[-1]) for size, line in zip(places.shape, lines, strict=True)]
    if before[0] or after[0] or before != after:
        raise InputError(f"a padding of {before[1:]} before and {after[1:]} after, expected the same", place=node.place)
    inner = places[:, before[1] : places.shape[1] - after[1], before[2] : places.shape[2] - after[2]]
    channels, height, width = inner.shape
    straight = np.arange(inner.size).reshape(inner.shape)
    from_last = np.arange(inner.size).reshape(height, width, channels).transpose(2, 0, 1)
    # An image may come with its channels last; the torch network takes it with its channels first.
    if not np.array_equal(inner, straight) and not (isinstance(value, Pixels) and np.array_equal(inner, from_last)):
        raise InputError("its inputs are not in the order channels, rows, columns", place=node.place)
    return (channels, height, width), (before[1], before[2])


def per_column(value: Sums, constant: Array, node: Node) -> Float64[np.ndarray, " column"]:
    """A constant as one number a column.

    Raises:
        InputError: It is not the same at all places of a column, or does not fit.
    """
    shape = (1, *value.places.shape)
    try:
        full = np.broadcast_to(constant, shape)[0]
    except ValueError as error:
        raise InputError(f"a constant of shape {constant.shape} on {shape}", place=node.place) from error
    by_place = np.empty(value.places.size)
    by_place[value.places.ravel()] = full.ravel()
    columns = by_place.reshape(len(value.scale), -1)
    if not bool((columns == columns[:, :1]).all()):
        raise InputError("its constant is not the same at all places of a column", place=node.place)
    return columns[:, 0].copy()


def straight_line(value: Pixels, node: Node) -> tuple[float, float]:
    """Factor and offset of numbers that are a straight line of the pixels.

    Raises:
        InputError: They are none.
    """
    grid = value.grid.astype(np.float64)
    size = float(np.abs(grid).max())
    factor, offset = float(grid[-1] - grid[0]) / 255, float(grid[0])
    line = factor * np.arange(256) + offset
    if factor == 0 or float(np.abs(grid - line).max()) > _STRAIGHT * size:
        raise InputError(
            "what comes is no straight line of the pixels 0..255, and no sign of them",
            place=node.place,
            hint="pixel_scale and pixel_offset say what the graph's own input is of a pixel",
        )
    return factor, 0.0 if abs(offset) < _STRAIGHT * size else offset


def pixel_threshold(value: Pixels) -> tuple[int, float] | None:
    """The pixel from which on numbers of two values +-s have the second, and this value; None where they are others."""
    grid = value.grid.astype(np.float64)
    upper: Bool[np.ndarray, " pixel"] = grid == grid[-1]
    first = int(np.argmax(upper))
    two = first > 0 and bool(upper[first:].all()) and bool((grid[:first] == -grid[-1]).all())
    return (first, float(grid[-1])) if two and grid[-1] != 0 else None


def size_of_signs(value: Signs, node: Node) -> float:
    """What stands for +1, where its negative stands for -1.

    torch's own sign gives 0 for 0; that 0 becomes +1, as everywhere in cosim.

    Raises:
        InputError: The two are no negatives of each other, or 0 counts as a number below it.
    """
    below, zero, above = (float(each) for each in value.three)
    if below != -above or above == 0:
        raise InputError(f"it takes {below:g} and {above:g}, expected a number and its negative", place=node.place)
    if zero not in (above, 0.0):
        raise InputError("a sign before it makes 0 what it makes of numbers below 0", place=node.place)
    return above
