"""Where a layer's inputs lie in the map before it: windows of a convolution, of a pooling, of a dense layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from cosim.errors import InputError

PadValue = Literal[-1, 0, 1]
_LARGEST = 2**30


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel that slides over a map; every place where it stops is one `position`.

    Inputs of one position are numbered kernel position first: input = tap * channels + channel, where the taps
    are the kernel's positions, row by row.

    Attributes:
        in_shape: Channels, height and width of the map.
        kernel: Height and width.
        stride: Vertical and horizontal step.
        padding: Rows above and below, columns left and right; smaller than the kernel.
        pad_value: What padding holds: +1 or -1, or 0 for rows that are off.
    """

    in_shape: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    pad_value: PadValue = 0

    def __post_init__(self) -> None:
        """Refuse sizes that are no sizes, padding as large as the kernel, and kernels larger than the padded map.

        Raises:
            InputError: Naming the size.
        """
        for name, size, length, least in (
            ("in_shape", self.in_shape, 3, 1),
            ("kernel", self.kernel, 2, 1),
            ("stride", self.stride, 2, 1),
            ("padding", self.padding, 2, 0),
        ):
            if len(size) != length or not all(least <= each <= _LARGEST for each in size):
                raise InputError(f"{name} must be {length} integers from {least} to {_LARGEST}, got {size}")
        if self.pad_value not in (-1, 0, 1):
            raise InputError(f"pad_value must be -1, 0 or 1, got {self.pad_value!r}")
        if any(pad >= size for pad, size in zip(self.padding, self.kernel, strict=True)):
            raise InputError(f"padding must be smaller than the kernel {self.kernel}, got {self.padding}")
        if min(self.out_size) < 1:
            raise InputError(f"a kernel of {self.kernel} is larger than the map {self.in_shape} with its padding")

    @property
    def channels(self) -> int:
        """The number of channels of the map."""
        return self.in_shape[0]

    @property
    def taps(self) -> int:
        """The number of kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @property
    def in_features(self) -> int:
        """The number of inputs of one position."""
        return self.channels * self.taps

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the map of positions."""
        sizes = zip(self.in_shape[1:], self.kernel, self.stride, self.padding, strict=True)
        height, width = ((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes)
        return height, width

    @property
    def positions(self) -> int:
        """The number of positions."""
        return self.out_size[0] * self.out_size[1]

    def pixels(self) -> Int64[np.ndarray, "position tap"]:
        """The place y * width + x in the map that a tap sees at a position, -1 in the padding.

        >>> Window((1, 2, 2), kernel=(1, 2), padding=(0, 1)).pixels().tolist()
        [[-1, 0], [0, 1], [1, -1], [-1, 2], [2, 3], [3, -1]]
        """
        rows, columns = (self._line(axis) for axis in (0, 1))
        inside = (rows >= 0)[:, None, :, None] & (columns >= 0)[None, :, None, :]
        place = rows[:, None, :, None] * self.in_shape[2] + columns[None, :, None, :]
        return np.where(inside, place, -1).reshape(self.positions, self.taps)

    def _line(self, axis: int) -> Int64[np.ndarray, "place tap"]:
        """The row (or column) of the map that each row of the kernel sees, -1 in the padding."""
        place = np.arange(self.out_size[axis])[:, None] * self.stride[axis] + np.arange(self.kernel[axis])
        line = place - self.padding[axis]
        return np.where((line >= 0) & (line < self.in_shape[1 + axis]), line, -1)


@dataclass(frozen=True, slots=True)
class Pool:
    """Max or average pooling, as torch's.

    What lies beyond the border does not take part in a maximum; in an average it counts as 0 and as one of the
    values (torch: count_include_pad). Real numbers are averaged in float32: added one after the other, row by row
    from 0, then divided by their number. That is what torch's AvgPool2d does on a CPU, to the bit. Integers are added
    exactly, and divided once where a real number is made of the sum.

    Attributes:
        size: Height and width.
        stride: Vertical and horizontal step.
        padding: At most half the size.
        of: "sums": of the sums, before batch norm (torch: convolution, pool, norm, sign); "outputs": of the
            layer's outputs (torch: convolution, norm, sign, pool; or norm, max pool, sign, which is the same).
        kind: "max" or "average"; an average of outputs is a real output, of which the layers after it take the sign
            or the number.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    of: Literal["sums", "outputs"] = "sums"
    kind: Literal["max", "average"] = "max"

    def __post_init__(self) -> None:
        """Refuse sizes that are no sizes and padding in which a window could see nothing.

        Raises:
            InputError: Naming the size.
        """
        Window((1, _LARGEST, _LARGEST), self.size, self.stride, self.padding)
        if any(2 * pad > size for pad, size in zip(self.padding, self.size, strict=True)):
            raise InputError(f"padding of a pooling must be at most half its size {self.size}, got {self.padding}")
        if self.of not in ("sums", "outputs"):
            raise InputError(f'a pooling is of "sums" or "outputs", got {self.of!r}')
        if self.kind not in ("max", "average"):
            raise InputError(f'a pooling is a "max" or an "average", got {self.kind!r}')

    @property
    def taps(self) -> int:
        """The number of values in a window, its padding included."""
        return self.size[0] * self.size[1]

    def window(self, height: int, width: int) -> Window:
        """The windows over a map of one channel."""
        return Window((1, height, width), self.size, self.stride, self.padding)


def dense_window(features: int) -> Window:
    """The window of a dense layer: each input a channel of a map of one pixel."""
    return Window((features, 1, 1), (1, 1))


def whole_map(shape: tuple[int, int, int]) -> Window:
    """The window of a dense layer after a map: a kernel as large as the map."""
    return Window(shape, (shape[1], shape[2]))
