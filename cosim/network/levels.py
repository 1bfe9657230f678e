"""Activations of several bits: the levels, and when a number reaches each.

Bits of a level are +1 and -1, bit k worth 2**k, so that a level of b bits is an odd integer from -(2**b - 1) to
2**b - 1. Over 2**b - 1 it is the activation, from -1 to 1 (Saikia et al., DATE 2021: with weights of two bits as well a
product is (4 p11 + 2 p10 + 2 p01 + p00) / 9). Every bit of the activations is read with every bit of the weights; the
integers are added, and the divisor is left to the batch norm or scale that follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int8, Int32, UInt64

from cosim.errors import InputError
from cosim.network.outputs import Threshold, expect_array
from cosim.network.packing import unpack_bits

LEVEL_BITS_MAX = 7


@dataclass(frozen=True, slots=True, eq=False)
class Quantizer:
    """Output level m of 0 to 2**bits - 1: how many steps s have direction * sum >= direction * value[:, s].

    The level stands for the odd integer 2 m - (2**bits - 1); direction 0 makes a column constantly the highest.

    Attributes:
        value: The sums at which each level begins, in MAC units, never falling in the direction, (column, step).
        direction: -1, 0 or +1, (column,).
    """

    value: Int32[np.ndarray, "column step"]
    direction: Int8[np.ndarray, " column"]

    def __post_init__(self) -> None:
        """Refuse wrong shapes, types, directions and orders, and numbers of levels that are no power of two."""
        columns, steps = self.value.shape if self.value.ndim == 2 else (0, 0)
        expect_array("value", self.value, np.int32, (columns, steps))
        expect_array("direction", self.direction, np.int8, (columns,))
        if np.any(np.abs(self.direction) > 1):
            raise InputError("direction must be -1, 0 or 1")
        if steps + 1 != 2**self.bits or not 2 <= self.bits <= LEVEL_BITS_MAX:
            raise InputError(f"a quantizer has 2**bits - 1 steps for 2 to {LEVEL_BITS_MAX} bits, got {steps}")
        if np.any(np.diff(self.value.astype(np.int64), axis=1) * self.direction[:, None] < 0):
            raise InputError("the steps of a quantizer must not fall in its direction")

    @property
    def bits(self) -> int:
        """Bits of a level."""
        return self.value.shape[1].bit_length()

    def step(self, number: int) -> Threshold:
        """The threshold of one step."""
        return Threshold(np.ascontiguousarray(self.value[:, number]), self.direction)


def level_steps(bits: int) -> Float32[np.ndarray, " step"]:
    """The numbers from which on a real output has level 1, 2, ...: half-way between the activations.

    >>> level_steps(1).tolist(), [round(float(each), 3) for each in level_steps(2)]
    ([0.0], [-0.667, 0.0, 0.667])
    """
    top = 2**bits
    return ((2.0 * np.arange(1, top) - top) / (top - 1)).astype(np.float32)


def unpack_levels(planes: UInt64[np.ndarray, "plane *batch word"], features: int) -> Int8[np.ndarray, "*batch feature"]:
    """The odd integers of packed bit planes, the lowest bit first; +1 and -1 of one plane.

    >>> unpack_levels(np.array([[0b01], [0b11]], np.uint64), 2)
    array([3, 1], dtype=int8)
    """
    level = sum(unpack_bits(plane, features).astype(np.int8) << k for k, plane in enumerate(planes))
    return np.asarray(2 * level - (2 ** len(planes) - 1), np.int8)
