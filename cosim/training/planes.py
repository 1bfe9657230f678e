"""Inputs and weights of several bits as planes of single ones, which arrays read one by one.

A level of b bits is an odd integer, the sum of its bits +1 and -1, bit k worth 2**k (see `cosim.network.levels`). Every
plane of the inputs is read with every plane of the weights: those of the weights lie in columns of their own, those of
the inputs follow each other in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.window import Window


@dataclass(frozen=True, slots=True)
class Taken:
    """What a layer that is read takes of the one before it.

    Attributes:
        bits: Of an input, which is an odd integer from -(2**bits - 1) to 2**bits - 1.
        on_off: Whether it is an integer from 0 to 2**bits - 1 in its place, whose bits 1 and 0 turn rows on and off.
        channels: Of the map that was flattened before a dense layer; None where there was none, or it is not known.
    """

    bits: int = 1
    on_off: bool = False
    channels: int | None = None

    @property
    def top(self) -> int:
        """The largest input."""
        return 2**self.bits - 1

    def check(self, x: Float[Tensor, "*any"]) -> None:
        """Refuse inputs that are no levels.

        Raises:
            InputError: Saying one.
        """
        if self.bits == 1 and not self.on_off:
            good, said = x.abs() == 1, "+1 and -1"
        else:
            level = x if self.on_off else (x + self.top) / 2
            good = (level == level.round()) & (level >= 0) & (level <= self.top)
            said = f"0 to {self.top}" if self.on_off else f"odd integers from {-self.top} to {self.top}"
        if not bool(good.all()):
            worst = float(x.detach()[~good][0])
            hint = "a dropout belongs before the sign; mode ideal takes any number"
            raise InputError(f"a simulated layer takes {said}, got {worst:g}", hint=hint)

    def planes(self, inputs: Float32[Tensor, "input read"]) -> Iterator[Float32[Tensor, "input read"]]:
        """The bits of inputs, the lowest first: +1 and -1, or 1 and 0; of a row in zero padding always 0."""
        if self.bits == 1:
            yield inputs
            return
        off = None if self.on_off else inputs == 0
        level = (inputs if off is None else (inputs + self.top) / 2).to(torch.uint8)
        for bit in range(self.bits):
            one = (level >> bit & 1).float()
            yield one if off is None else (2 * one - 1).masked_fill(off, 0.0)


def weight_planes(weight: Float32[Tensor, "column input"], bits: int) -> Float32[Tensor, "bit_column input"]:
    """The bits of weights as +1 and -1, all columns of the lowest first."""
    if bits == 1:
        return weight
    level = ((weight + (2**bits - 1)) / 2).to(torch.uint8)
    return torch.cat([(level >> bit & 1).float() * 2 - 1 for bit in range(bits)])


def added_up(planes: Shaped[Tensor, "bit_column *reads"], bits: int) -> Shaped[Tensor, "column *reads"]:
    """What the planes of the weights are worth together, bit j times 2**j."""
    if bits == 1:
        return planes
    parts = planes.chunk(bits)
    total = parts[0].clone()
    for bit, part in enumerate(parts[1:], start=1):
        total.add_(part, alpha=2**bit)
    return total


def patches(
    x: Float[Tensor, "image channel height width"], window: Window, most: int = 1
) -> Float[Tensor, "input image_position"]:
    """The inputs of every position, image by image, numbered as in `Window`: kernel position first.

    Padding holds the window's pad value times `most`, the largest input.
    """
    (down, right), (tall, wide) = window.padding, window.kernel
    padded = nn.functional.pad(x, (right, right, down, down), value=float(window.pad_value * most))
    windows = padded.unfold(2, tall, window.stride[0]).unfold(3, wide, window.stride[1])
    return windows.permute(4, 5, 1, 0, 2, 3).reshape(window.in_features, -1)
