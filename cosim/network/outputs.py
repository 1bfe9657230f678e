"""What a layer makes of its sums: a sign, a real number, logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32

from cosim.errors import InputError

BLOCK_MAX = 256


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
        expect_array("value", self.value, np.int32, (self.value.size,))
        expect_array("direction", self.direction, np.int8, self.value.shape)
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
        expect_array("scale", self.scale, np.float32, (self.scale.size,))
        expect_array("offset", self.offset, np.float32, self.scale.shape)

    def apply(self, sums: Float32[np.ndarray, "image column"]) -> Float32[np.ndarray, "image column"]:
        """The outputs for sums in MAC units."""
        return sums * self.scale + self.offset


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """Output hard_tanh(sum * scale + offset + shortcut): a real number; the layers after it take its sign.

    The arithmetic is float32 with one rounding after each operation, in this order and never fused, so that
    torch's elementwise operations, NumPy and the kernels give the same bits on any machine. torch's own batch
    norm may fuse the product and the sum, which differs in the last bit; on parameters that `dyadic` has
    rounded every operation is exact, and then it agrees too.

    Attributes:
        scale: Factor of one MAC unit, (column,).
        offset: Value at sum 0, (column,).
        shortcut: Name of an earlier layer whose real output is added, or "" for none.
        hard_tanh: Whether the result is clipped to -1..1.
    """

    scale: Float32[np.ndarray, " column"]
    offset: Float32[np.ndarray, " column"]
    shortcut: str = ""
    hard_tanh: bool = False

    def __post_init__(self) -> None:
        """Refuse wrong shapes and types and values that are not finite."""
        expect_array("scale", self.scale, np.float32, (self.scale.size,))
        expect_array("offset", self.offset, np.float32, self.scale.shape)


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
            expect_array(name, getattr(self, name), np.float32, (self.gamma.size,))
        if not (np.isfinite(self.epsilon) and np.all(self.variance + np.float32(self.epsilon) > 0)):
            raise InputError("variance + epsilon must be positive")


def scaled(norm: BatchNorm, factor: Float32[np.ndarray, " column"]) -> BatchNorm:
    """The batch norm of sums that takes in a factor: scaled(norm, factor)(sum) = norm(factor * sum).

    So the scaling factors of XNOR-Net (Rastegari et al., ECCV 2016), mean |w| of each output, cost nothing: the
    circuit sums +1 and -1. An affine or real output takes them in as `scale * factor`.

    Raises:
        InputError: A factor that is not positive and finite, or not one a column.

    >>> one = np.ones(1, np.float32)
    >>> norm = scaled(BatchNorm(one, one, 3 * one, 4 * one, 0.0), np.array([0.5], np.float32))
    >>> [array.tolist() for array in affine_of(norm)], norm.mean.tolist()
    ([[0.25], [-0.5]], [6.0])
    """
    expect_array("factor", factor, np.float32, norm.gamma.shape)
    if not np.all(factor > 0):
        raise InputError("a scaling factor must be positive")
    wide = factor.astype(np.float64)
    variance = (norm.variance.astype(np.float64) + norm.epsilon) / wide**2
    mean = norm.mean.astype(np.float64) / wide
    return BatchNorm(norm.gamma, norm.beta, mean.astype(np.float32), variance.astype(np.float32), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Support:
    """A positive factor for each block of weights below each other (S4, Supported-BinaryNet).

    A block is read alone, as a sub-array of its own number of rows, and its partial sum is multiplied digitally.
    Blocks go by the number of the input as it lies in the rows: of a window, kernel position first.

    Attributes:
        block: Inputs of one block, 1 to 256; the last block may be smaller.
        value: The factor times 2**fraction_bits, (block, column).
        fraction_bits: Position of the binary point in `value`.
    """

    block: int
    value: Int32[np.ndarray, "block column"]
    fraction_bits: int

    def __post_init__(self) -> None:
        """Refuse wrong shapes and types, and factors that are not positive."""
        columns = self.value.shape[1] if self.value.ndim == 2 else 0
        expect_array("support", self.value, np.int32, (len(self.value), columns))
        if not 1 <= self.block <= BLOCK_MAX or not 0 <= self.fraction_bits <= 15:
            got = f"{self.block} and {self.fraction_bits}"
            raise InputError(f"a block must be 1 to {BLOCK_MAX} inputs and fraction_bits 0 to 15, got {got}")
        if np.any(self.value < 1):
            raise InputError("the factors of a support must be positive")


def affine_of(norm: BatchNorm) -> tuple[Float32[np.ndarray, " column"], Float32[np.ndarray, " column"]]:
    """Scale and offset of a batch norm, computed in float64 and rounded once."""
    gamma, beta, mean, variance = (
        each.astype(np.float64) for each in (norm.gamma, norm.beta, norm.mean, norm.variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def dyadic(
    scale: Float32[np.ndarray, " column"], offset: Float32[np.ndarray, " column"], *, reach: int, grid_bits: int
) -> tuple[Float32[np.ndarray, " column"], Float32[np.ndarray, " column"]]:
    """Scale and offset rounded to multiples of 2**-grid_bits, so that float32 arithmetic on them is exact.

    Sums of such numbers are exact in any order, fused or not, while they stay below 2**(24 - grid_bits).

    Args:
        reach: Largest magnitude of a sum.
        grid_bits: Position of the binary point of the grid.

    Raises:
        InputError: A result could need more than the 24 bits of float32; half of them are left to the shortcut.

    >>> scale, offset = dyadic(np.array([0.3], np.float32), np.array([1.1], np.float32), reach=100, grid_bits=8)
    >>> float(scale[0]) * 256, float(offset[0]) * 256
    (77.0, 282.0)
    """
    one = 2.0**grid_bits
    rounded = [np.rint(each.astype(np.float64) * one) / one for each in (scale, offset)]
    largest = float((np.abs(rounded[0]) * reach + np.abs(rounded[1])).max())
    if largest * one > 2**23:
        raise InputError(
            f"sums of {reach} times a scale reach {largest:g}, more than {grid_bits} fraction bits leave room for",
            hint="use fewer grid_bits",
        )
    return rounded[0].astype(np.float32), rounded[1].astype(np.float32)


def expect_array(name: str, values: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Refuse an array of another type or shape, an empty one, and values that are not finite.

    Raises:
        InputError: Naming the array.
    """
    if values.dtype != dtype or values.shape != shape or values.size == 0:
        raise InputError(
            f"{name} must be {np.dtype(dtype).name} of shape {shape} and not empty, "
            f"got {values.dtype.name} of shape {values.shape}"
        )
    if not np.all(_finite(values)):
        raise InputError(f"{name} has values that are not finite")


def _finite(values: np.ndarray) -> Bool[np.ndarray, "*any"]:
    return np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, np.bool_)
