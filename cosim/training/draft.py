"""Layers of a `Graph` while a forward is followed step by step: what is known of each so far."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from cosim.errors import InputError
from cosim.training.binary import ClassAffine
from cosim.training.convolutional import BinaryConv2d
from cosim.training.graph import GraphLayer
from cosim.training.groups import Norm, Pooling, Weights
from cosim.training.kept import KeptLayer
from cosim.training.real import RealConv2d, scale_and_offset
from cosim.training.twins import Pending, affine_norm_of, merged_of


@dataclass(slots=True, eq=False)
class Source:
    """Where a layer takes its inputs.

    Attributes:
        of: The layer; None for the pixels.
        input: Whether it takes signs or levels, or numbers.
        bits: Of signs or levels.
    """

    of: Draft | KeptDraft | None
    input: Literal["binary", "real"] = "binary"
    bits: int = 1

    def name(self, before: str) -> str:
        """The source's name, "" where that is the layer before, or the pixels."""
        return "" if self.of is None or self.of.name == before else self.of.name


@dataclass(slots=True, eq=False)
class KeptDraft:
    """A module in floating point."""

    name: str
    module: nn.Module
    source: Source
    flat: bool
    end: int = -1

    def take(self, bits: int) -> None:
        """It gives real numbers, whatever is taken of them."""

    def layer(self, before: str) -> KeptLayer:
        """The layer."""
        source = self.source
        about = source.name(before), source.input, source.bits
        return KeptLayer(
            self.name,
            copy.deepcopy(self.module),
            source=about[0],
            input=about[1],
            activation_bits=about[2],
            flat=self.flat,
        )


@dataclass(slots=True, eq=False)
class Draft:
    """A layer with weights.

    Attributes:
        end: The step that gives its output, as far as it goes.
        pending: Factor and bias of its sums, which its batch norm takes up.
        norm: The batch norm of its bare sums.
        reals: Whether its real output is taken, and not its signs alone.
        cuts: Bits of what its output is cut into by those that take it.
    """

    name: str
    weights: Weights
    source: Source
    pending: Pending
    end: int
    norm: Norm | None = None
    affine: ClassAffine | None = None
    pool: Pooling | None = None
    pool_of: Literal["sums", "outputs"] = "sums"
    shortcut: Draft | KeptDraft | None = None
    hard_tanh: bool = False
    reals: bool = False
    cuts: set[int] = field(default_factory=set[int])

    def take(self, bits: int) -> None:
        """Note that its real output is taken (0 bits), or cut into levels of so many bits."""
        if bits:
            self.cuts.add(bits)
        else:
            self.reals = True

    def ensure_norm(self) -> None:
        """Where it has no batch norm, one that does nothing but multiply by the factor and add the bias."""
        if self.norm is None:
            plain = (nn.BatchNorm2d if self.pending.conv else nn.BatchNorm1d)(self.pending.columns, eps=0.0)
            self.norm = merged_of(plain, self.pending)

    def finish(self) -> None:
        """Make it the last layer, whose scale and offset give logits.

        Raises:
            InputError: It has what a last layer cannot have.
        """
        if self.pending.conv:
            raise InputError("the last layer must be dense")
        if self.cuts or self.reals or self.shortcut is not None or self.hard_tanh or self.pool is not None:
            raise InputError("the last layer gives logits alone: nothing else takes them, nothing is added to them")
        scale, offset = (self.pending.scale, self.pending.bias) if self.norm is None else scale_and_offset(self.norm)
        self.norm, self.affine = None, ClassAffine(scale, offset)

    def layer(self, before: str) -> GraphLayer:
        """The layer: with a real output where that is taken, or has several cuts."""
        averages = self.pool_of == "outputs" and self.pool is not None and not isinstance(self.pool, nn.MaxPool2d)
        reals = self.reals or averages or self.shortcut is not None or self.pending.real or len(self.cuts) != 1
        norm = self.norm if self.norm is None or not reals else affine_norm_of(self.norm)
        source, shortcut = self.source, self.shortcut
        if isinstance(self.weights, BinaryConv2d | RealConv2d):
            self.weights.input_bits = 1 if source.input == "real" else source.bits
        return GraphLayer(
            self.name,
            self.weights,
            norm=norm,
            affine=self.affine,
            pool=self.pool,
            pool_of=self.pool_of,
            input=source.input,
            source=source.name(before),
            shortcut="" if shortcut is None else shortcut.name,
            hard_tanh=self.hard_tanh and reals and norm is not None,
            activation_bits=source.bits,
            output_bits=1 if reals else next(iter(self.cuts)),
        )
