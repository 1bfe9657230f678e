"""A forward with shortcuts, step by step, made into the layers of a `Graph`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.training.binary import Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.draft import Draft, KeptDraft, Source
from cosim.training.flow import PIXELS, Step
from cosim.training.graph import Graph
from cosim.training.groups import Norm
from cosim.training.layer_building import NEEDS_SIGNS
from cosim.training.levels import Levels
from cosim.training.pixel_sign import PixelSign
from cosim.training.probing import binarizes_inputs, sign_at_zero
from cosim.training.real import RealConv2d, RealLinear
from cosim.training.twins import (
    PLAIN,
    Average,
    Pending,
    Weighted,
    average_of,
    binary_of,
    check_finite,
    check_norm,
    merged_of,
    real_of,
    scale_of,
)

_PASSED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_ONE_OUTPUT = "what it takes is taken elsewhere too, and a layer of a packed network has one output"
_ADDED = "an addition is of the result of a batch norm, which nothing else takes, and an earlier real output"


@dataclass(slots=True, eq=False)
class Value:
    """What a step gives.

    Attributes:
        of: The layer that makes it; None for the pixels.
        kind: "sums" become "reals" by a batch norm and "signs" by a sign.
        step: The step's number.
        bits: Of signs, more where they are levels.
        flat: Whether it is columns and no map; None where that is not known.
        columns: How many columns or channels; None where that is not known.
        bent: Why its numbers are not those of a packed network, where only signs may follow.
    """

    of: Draft | KeptDraft | None
    kind: Literal["pixels", "sums", "reals", "signs"]
    step: int
    bits: int = 1
    flat: bool | None = None
    columns: int | None = None
    bent: str = ""


@dataclass(slots=True)
class GraphBuilder:
    """Follows the steps of a forward.

    Attributes:
        steps: All of them.
        pixel_scale: What the model's own input is of a pixel.
        exclude, real: As of `convert`.
        values: What each step gives; None where it is refused.
        drafts: The layers.
        pixels: The sign of the pixels.
        seen: Weighted modules that have been called.
    """

    steps: Sequence[Step]
    pixel_scale: float
    exclude: Collection[str]
    real: Collection[str]
    values: list[Value | None] = field(default_factory=list["Value | None"])
    drafts: list[Draft | KeptDraft] = field(default_factory=list["Draft | KeptDraft"])
    pixels: PixelSign | None = None
    seen: set[int] = field(default_factory=set[int])

    def follow(self, number: int) -> tuple[str, str]:
        """What becomes of a step: an action and its explanation.

        Raises:
            InputError: It cannot be part of a packed network, or not here.
        """
        step = self.steps[number]
        if step.problem:
            raise InputError(step.problem)
        taken = [self._taken(each) for each in step.inputs]
        if step.module is None:
            value, says = self._add(number, *taken)
            action = "simulated"
        elif step.name in self.exclude:
            action, (value, says) = "kept", self._keep(number, step.module, taken[0])
        else:
            action, value, says = self._module(number, step.module, taken[0])
        self.values.append(value)
        return action, says

    def graph(self) -> Graph:
        """The network.

        Raises:
            InputError: The last step gives no logits.
        """
        last = self._taken(len(self.values) - 1)
        if last.bent:
            raise InputError(last.bent)
        if last.kind not in ("sums", "reals") or last.of is not self.drafts[-1]:
            raise InputError("the last layer must give real numbers, one a class, and no signs")
        if isinstance(last.of, Draft):
            last.of.finish()
        before, layers = "", list[object]()
        for draft in self.drafts:
            layers.append(draft.layer(before))
            before = draft.name
        return Graph(cast(Sequence[object], layers), self.pixels)  # pyright: ignore[reportArgumentType]

    def _taken(self, number: int) -> Value:
        value = Value(None, "pixels", PIXELS) if number == PIXELS else self.values[number]
        if value is None:
            raise InputError("it takes what is refused")
        return value

    def _module(self, number: int, module: nn.Module, value: Value) -> tuple[str, Value, str]:
        """What becomes of a module, what it gives, and the explanation."""
        if isinstance(module, _PASSED):
            for_training = "" if isinstance(module, nn.Identity) else "for training; "
            return "left out", self._pass(number, value), f"{for_training}it gives its input"
        last = number == len(self.steps) - 1
        if last and isinstance(module, nn.Softmax | nn.LogSoftmax):
            return "left out", self._pass(number, value), "logits take its place; the largest stays the largest"
        if isinstance(module, nn.Flatten):
            if (module.start_dim, module.end_dim) != (1, -1):
                raise InputError("only a flattening of everything but the images, start_dim 1 and end_dim -1")
            flat = replace(self._pass(number, value), flat=True, columns=value.columns if value.flat else None)
            return "kept", flat, "no arithmetic"
        if isinstance(value.of, KeptDraft) and value.kind == "reals" and self._stays_kept(module):
            kept, says = self._keep(number, module, value)
            return "kept", kept, says
        return "simulated", *self._simulated(number, module, value)

    def _simulated(self, number: int, module: nn.Module, value: Value) -> tuple[Value, str]:
        if isinstance(module, PixelSign):
            return self._pixel_sign(number, module, value)
        if isinstance(module, Weighted):
            return self._weights(number, module, value)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._norm(number, module, value)
        if isinstance(module, nn.MaxPool2d | Average):
            return self._pool(number, module, value)
        if isinstance(module, nn.Hardtanh | nn.Tanh):
            return self._tanh(number, module, value)
        return self._cut(number, module, value)

    @staticmethod
    def _stays_kept(module: nn.Module) -> bool:
        return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.MaxPool2d | Average | nn.Hardtanh | nn.Tanh)

    def _keep(self, number: int, module: nn.Module, value: Value) -> tuple[Value, str]:
        if value.kind == "pixels" and self.pixel_scale != 1.0:
            raise InputError("a first layer in floating point takes the pixels as they are, pixel_scale must be 1")
        name, used = self.steps[number].name, [draft.name for draft in self.drafts]
        while name in used:  # A module without weights may be called twice.
            name += "_again"
        draft = KeptDraft(name, module, self._source(value), value.flat is True, number)
        self.drafts.append(draft)
        return Value(draft, "reals", number), "in floating point; export refuses it"

    def _pixel_sign(self, number: int, module: PixelSign, value: Value) -> tuple[Value, str]:
        if value.kind != "pixels" or self.drafts or self.pixel_scale != 1.0:
            raise InputError("it must be the first module and take the pixels as they are, pixel_scale 1")
        self.pixels = copy.deepcopy(module)
        says = f"pixels from {int(module.threshold)} on are +1, so that the first layer is read as well"
        return Value(None, "signs", number), says

    def _weights(self, number: int, module: Weighted, value: Value) -> tuple[Value, str]:
        step = self.steps[number]
        if id(module) in self.seen:
            raise InputError("it is called twice; a layer has weights of its own")
        self.seen.add(id(module))
        check_finite(module)
        real = step.name in self.real or isinstance(module, RealLinear | RealConv2d)
        says = "" if real else self._own_signs(number, module, value)
        value = value if not says else Value(value.of, "signs", value.step, 1, value.flat, value.columns)
        if value.kind in ("sums", "reals") and not real:
            raise InputError(f"{NEEDS_SIGNS}, or its weights stay real: real=[{step.name!r}]")
        conv = isinstance(module, nn.Conv2d | BinaryConv2d | RealConv2d)
        if conv and value.flat:
            raise InputError("a convolution after a dense layer or a flattening has no map")
        known = value.columns if value.flat is (not conv) else None
        if known is not None and module.weight.shape[1] != known:
            raise InputError(f"it takes {module.weight.shape[1]} {'channels' if conv else 'inputs'}, {known} come")
        draft, said = self._draft(number, module, value, real=real)
        self.drafts.append(draft)
        return Value(draft, "sums", number, flat=not conv, columns=draft.pending.columns), says + said

    def _draft(self, number: int, module: Weighted, value: Value, *, real: bool) -> tuple[Draft, str]:
        source, columns = self._source(value), len(module.weight)
        scale = torch.ones(columns)
        if real:
            assert isinstance(module, nn.Linear | nn.Conv2d | RealLinear | RealConv2d)
            weights, said = real_of(module), "real weights"
        else:
            said, scale = scale_of(module)
            weights = binary_of(module)
        where = {"pixels": "digital, on pixels 0..255", "signs": "read from the array"}.get(value.kind, "")
        if real:
            where = {"pixels": where, "signs": "digital, on signs"}.get(value.kind, "digital, on real numbers")
        scale = scale * self.pixel_scale if value.kind == "pixels" else scale
        bias: Tensor | None = getattr(module, "bias", None)
        bias = torch.zeros(columns) if bias is None else bias.detach().float().clone()
        conv = isinstance(weights, BinaryConv2d | RealConv2d)
        pending = Pending(self.steps[number].name, columns, conv, scale, bias, real)
        draft = Draft(self.steps[number].name, weights, source, pending, number)
        return draft, f"{type(weights).__name__}, {where}; {said}"

    def _own_signs(self, number: int, module: Weighted, value: Value) -> str:
        """Cut a real output where the layer's own forward takes the signs of its inputs."""
        if type(module) in PLAIN or not isinstance(module, nn.Linear | nn.Conv2d) or not binarizes_inputs(module):
            return ""
        if value.kind == "pixels":
            raise InputError("it takes the signs of its inputs, but the pixels are all positive")
        if value.kind == "signs":
            return ""
        self._ensure_norm(value)
        return "Sign, as its forward takes the signs of its inputs, and "

    def _source(self, value: Value) -> Source:
        """What a layer takes, noted where it comes from."""
        if value.of is None:
            if self.drafts:
                raise InputError("only the first layer takes the pixels")
            return Source(None)
        if value.kind == "signs":
            value.of.take(value.bits)
            return Source(value.of, "binary", value.bits)
        if value.bent:
            raise InputError(f"{value.bent} where its numbers are taken")
        self._ensure_norm(value)
        value.of.take(0)
        return Source(value.of, "real")

    def _norm(self, number: int, module: Norm, value: Value) -> tuple[Value, str]:
        draft = value.of
        if value.kind != "sums" or not isinstance(draft, Draft) or draft.norm is not None:
            raise InputError("a batch norm must follow a convolution or dense layer (with its pooling), and once")
        pending = draft.pending
        check_norm(module, pending)
        self._extend(number, value)
        draft.norm = merged_of(module, pending)
        joined = bool((pending.bias != 0).any()) or bool((pending.scale != 1).any())
        says = "a scale and offset a column" + (f"; takes up bias and factor of {pending.name}" if joined else "")
        return replace(value, kind="reals", step=number), says

    def _pool(self, number: int, module: nn.MaxPool2d | Average, value: Value) -> tuple[Value, str]:
        draft = value.of
        if not isinstance(draft, Draft):
            raise InputError("a pooling of the pixels has no simulation")
        if draft.pool is not None:
            raise InputError("a layer has one pooling")
        if value.flat:
            raise InputError("a pooling needs a map, not columns")
        if value.bent:
            raise InputError(f"{value.bent} where its numbers are taken")
        self._extend(number, value)
        if isinstance(module, nn.MaxPool2d):
            if value.kind == "sums" and bool((draft.pending.scale <= 0).any()):
                raise InputError(f"a factor of {draft.name} is negative, so its largest output is not its largest sum")
            draft.pool = copy.deepcopy(module)
        else:
            draft.pool, padded = average_of(module)
            if value.kind == "signs":
                raise InputError("an average of signs in a network with shortcuts has no simulation")
            if padded and value.kind == "sums" and bool((draft.pending.bias != 0).any()):
                raise InputError(f"its padding has no bias, but the outputs of {draft.name} do")
        draft.pool_of = "sums" if value.kind == "sums" else "outputs"
        said = {"sums": "of the sums", "signs": "of the signs"}.get(value.kind, "of the layer's real outputs")
        return replace(value, step=number), said

    def _tanh(self, number: int, module: nn.Hardtanh | nn.Tanh, value: Value) -> tuple[Value, str]:
        draft = value.of
        if isinstance(module, nn.Hardtanh) and not module.min_val < 0 < module.max_val:
            raise InputError(f"a hard tanh from {module.min_val} to {module.max_val} changes signs")
        if not isinstance(draft, Draft) or value.kind not in ("sums", "reals"):
            raise InputError("a tanh stands between a layer and its sign")
        self._ensure_norm(value)
        self._extend(number, value)
        after = replace(value, kind="reals", step=number)
        if isinstance(module, nn.Tanh) or (module.min_val, module.max_val) != (-1.0, 1.0):
            name = f"{self.steps[number].name} ({type(module).__name__})"
            bent = f"{name} may only be followed by a sign: it is no hard tanh of -1 to 1"
            return replace(after, bent=bent), "gradient of the sign after it, which it does not change"
        if draft.pool is not None and draft.pool_of == "outputs" and not isinstance(draft.pool, nn.MaxPool2d):
            raise InputError("a hard tanh must stand before an average of its layer's outputs")
        draft.hard_tanh = True
        return after, "clips a real output to -1..1"

    def _cut(self, number: int, module: nn.Module, value: Value) -> tuple[Value, str]:
        """A sign or levels."""
        levels = isinstance(module, Levels)
        zero = 1.0 if levels or type(module) is Sign else sign_at_zero(module)
        if zero is None:
            raise InputError("it has no simulation, and it does not give the signs of its inputs")
        if value.kind not in ("sums", "reals"):
            raise InputError(f"{'levels' if levels else 'a sign'} must follow a convolution or dense layer")
        if levels and value.bent:
            raise InputError(value.bent)
        self._ensure_norm(value)
        after = replace(value, kind="signs", step=number, bits=module.bits if levels else 1, bent="")
        self._move_end(number, value)
        if levels:
            return after, f"{after.bits} bits an activation"
        return after, "sign with the gradient of a hard tanh" + (
            "" if zero == 1.0 else f"; its {zero:g} at 0 becomes +1"
        )

    def _add(self, number: int, first: Value, second: Value) -> tuple[Value, str]:
        """A shortcut: one of the two is the result of a batch norm, the other an earlier layer's output."""
        for value in (first, second):
            if value.kind not in ("sums", "reals") or value.of is None:
                raise InputError(_ADDED)
            if value.bent:
                raise InputError(f"{value.bent} where its numbers are taken")
            self._ensure_norm(value)
        found = [pair for pair in ((first, second), (second, first)) if self._takes_shortcut(pair[0])]
        if not found or first.of is second.of:
            raise InputError(_ADDED)
        value, added = max(found, key=lambda each: each[0].step)
        draft, other = cast(Draft, value.of), cast("Draft | KeptDraft", added.of)
        if None not in (value.columns, added.columns) and value.columns != added.columns:
            raise InputError(f"it adds {added.columns} columns to {value.columns}")
        draft.shortcut, draft.end = other, number
        other.take(0)
        if self.drafts.index(draft) < self.drafts.index(other):
            self.drafts.remove(draft)
            self.drafts.append(draft)  # Nothing takes it but this addition.
        return replace(
            value, kind="reals", step=number
        ), f"shortcut: the output of {other.name} is added to {draft.name}"

    def _takes_shortcut(self, value: Value) -> bool:
        draft = value.of
        if not isinstance(draft, Draft) or draft.end != value.step or self.steps[value.step].users != 1:
            return False
        pooled = draft.pool is not None and draft.pool_of == "outputs"
        return draft.shortcut is None and not draft.hard_tanh and not pooled

    def _ensure_norm(self, value: Value) -> None:
        if value.kind == "sums":
            cast(Draft, value.of).ensure_norm()
            value.kind = "reals"

    def _extend(self, number: int, value: Value) -> None:
        """Make a step the end of a layer, which nothing else takes as it was before."""
        if value.of is None or value.of.end != value.step or self.steps[value.step].users != 1:
            raise InputError(_ONE_OUTPUT)
        value.of.end = number

    def _move_end(self, number: int, value: Value) -> None:
        """Make a step the end of a layer where nothing else takes what it gave before."""
        if value.of is not None and value.of.end == value.step and self.steps[value.step].users == 1:
            value.of.end = number

    def _pass(self, number: int, value: Value) -> Value:
        self._move_end(number, value)
        return replace(value, step=number)
