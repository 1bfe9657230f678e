"""One module of a user's model after the other, made into modules that cosim simulates."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.groups import Norm
from cosim.training.levels import Levels
from cosim.training.packed import pair
from cosim.training.pixel_sign import PixelSign
from cosim.training.planes import Taken
from cosim.training.probing import binarizes_inputs, sign_at_zero
from cosim.training.real import AffineNorm1d, AffineNorm2d, RealConv2d, RealLinear, scale_and_offset
from cosim.training.twins import (
    PLAIN,
    Average,
    Pending,
    Weighted,
    affine_norm_of,
    average_of,
    binary_of,
    check_finite,
    check_norm,
    merged_of,
    real_of,
    scale_of,
)

AVERAGED_SUMS = (
    "an average of sums that are read inside torch may stand after their batch norm or sign, not before "
    "(convert it without the surrogate and export it: cosim.evaluate reads the packed network)"
)
NEEDS_SIGNS = "its input is not +1 and -1: a sign must stand before it"


@dataclass(slots=True)
class Builder:
    """The modules made so far; "sums" become "reals" by a batch norm or tanh and then "signs".

    Attributes:
        pixel_scale: What the model's own input is of a pixel.
        modules: Them, by name.
        pending: The weights whose batch norm has not come yet.
        norm: The batch norm that came after them, until a sign has come.
        values: What the last module gives: "pixels", "signs", "sums", "reals" or "float" (after a kept module).
        channels: How many columns or channels it gives; None where that is not known.
        flat: Whether it gives columns and no map; None where that is not known.
        seen: Weighted modules that have been called.
        pooled: Whether the layer has its pooling.
        flattened: Channels of the map that was flattened last, None where that is not known or there was none.
        bits: Of the signs, more where they are levels.
        simulated: Whether partial sums are to be read inside torch.
        reads: What the layers that are read from arrays take.
        places: The module that each of them was.
        norms: Batch norms of their sums, with the bits of what their values are cut into.
        reading: Whether the pending weights are of such a layer.
        cut: The last of `norms`.
        bent: Why the numbers after the last batch norm are not those of a packed network, where only signs may follow.
    """

    pixel_scale: float = 1.0
    modules: OrderedDict[str, nn.Module] = field(default_factory=OrderedDict[str, nn.Module])
    pending: Pending | None = None
    norm: Norm | None = None
    values: str = "pixels"
    channels: int | None = None
    flat: bool | None = None
    seen: set[int] = field(default_factory=set[int])
    pooled: bool = False
    flattened: int | None = None
    bits: int = 1
    simulated: bool = False
    reads: dict[str, Taken] = field(default_factory=dict[str, Taken])
    places: dict[str, str] = field(default_factory=dict[str, str])
    norms: dict[str, int] = field(default_factory=dict[str, int])
    reading: bool = False
    cut: str = ""
    bent: str = ""

    def keep(self, name: str, module: nn.Module) -> str:
        """Keep a module in floating point, and say so."""
        if self.pending is not None:
            raise InputError("a module in floating point must stand at the beginning or after a sign")
        if self.values == "pixels" and self.pixel_scale != 1.0:
            raise InputError("a first layer in floating point takes the pixels as they are, pixel_scale must be 1")
        self._put(name, copy.deepcopy(module))
        self.values, self.channels, self.flat = "float", None, None
        return "in floating point, as excluded; export refuses it"

    def add(self, name: str, module: nn.Module, *, last: bool) -> tuple[str, str]:
        """Make a module, and say what becomes of it: an action and its explanation.

        Raises:
            InputError: It cannot be simulated, or not here.
        """
        if isinstance(module, PixelSign):
            return "simulated", self._add_pixel_sign(name, module)
        if isinstance(module, RealLinear | RealConv2d):
            return "simulated", self.add_real(name, module)
        if isinstance(module, Weighted):
            return "simulated", self._add_weights(name, module)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._add_norm(name, module)
        if isinstance(module, ClassAffine):
            return "simulated", self._add_affine(module, last)
        if isinstance(module, nn.MaxPool2d):
            return "simulated", self._add_pool(name, module)
        if isinstance(module, Average):
            return "simulated", self._add_average(name, module)
        if isinstance(module, Levels):
            return "simulated", self._add_levels(name, module)
        if isinstance(module, nn.Hardtanh | nn.Tanh):
            return "simulated", self._add_tanh(name, module)
        if isinstance(module, nn.Flatten):
            return self._add_flatten(name, module)
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            return self._add_dropout(name, module)
        if isinstance(module, nn.Identity):
            return "left out", "it gives its input"
        if last and isinstance(module, nn.Softmax | nn.LogSoftmax):
            return "left out", "logits take its place; it does not change which class has the largest"
        return "simulated", self._add_sign(name, module)

    def finish(self) -> str:
        """Make the last layer's scale and offset; says what is wrong with the end, "" for nothing."""
        if self.values == "float":
            return ""
        pending, norm = self.pending, self.norm
        if pending is None:
            return "the last layer must give real numbers, one a class, and no signs"
        if pending.conv:
            return "the last layer must be dense"
        if norm is not None:
            name, last = self.modules.popitem()
            if last is not norm:
                return f"nothing may follow the last batch norm, but {name} does"
        if self.bent:
            return self.bent
        scale, offset = (pending.scale, pending.bias) if norm is None else scale_and_offset(norm)
        self.modules["affine" if "affine" not in self.modules else f"{pending.name}_affine"] = ClassAffine(
            scale, offset
        )
        return ""

    def _add_pixel_sign(self, name: str, module: PixelSign) -> str:
        if self.values != "pixels" or self.modules or self.pixel_scale != 1.0:
            raise InputError("it must be the first module and take the pixels as they are, pixel_scale 1")
        self._put(name, copy.deepcopy(module))
        self.values = "signs"
        return f"pixels from {int(module.threshold)} on are +1, so that the first layer is read as well"

    def add_real(self, name: str, module: nn.Linear | nn.Conv2d | RealLinear | RealConv2d) -> str:
        """Make a layer of real weights, and say what it becomes.

        Raises:
            InputError: Its inputs are neither pixels nor signs nor real numbers that a packed network has.
        """
        self._check_weights(module)
        if self.values == "reals":
            self._take_reals()
        elif self.values not in ("pixels", "signs"):
            raise InputError("its input is neither pixels nor signs nor the result of a batch norm")
        self._check_inputs(module, module.weight.detach())
        scale = torch.full((len(module.weight),), self.pixel_scale if self.values == "pixels" else 1.0)
        said = {"pixels": "pixels 0..255", "signs": "signs", "reals": "real numbers"}[self.values]
        self._begin(name, module, real_of(module), scale)
        return f"{type(self.modules[next(reversed(self.modules))]).__name__}, real weights, digital, on {said}"

    def _check_weights(self, module: Weighted) -> None:
        if id(module) in self.seen:
            raise InputError("it is called twice; a layer has weights of its own")
        self.seen.add(id(module))
        check_finite(module)

    def _take_reals(self) -> None:
        """Make the last batch norm one whose numbers are those of a packed network."""
        if self.bent:
            raise InputError(f"{self.bent} where its numbers are taken")
        if self.norm is not None and not isinstance(self.norm, AffineNorm1d | AffineNorm2d):
            norm = self.norm
            self.norm = affine_norm_of(norm)
            key = next(key for key, module in self.modules.items() if module is norm)
            self.modules[key] = self.norm

    def _begin(self, name: str, module: Weighted, twin: nn.Module, scale: Tensor) -> None:
        """Put a layer's weights, and wait for its batch norm."""
        put = self._put(name, twin)
        self.reading = self.values == "signs" and isinstance(twin, BinaryLinear | BinaryConv2d)
        bits = self.bits if self.values == "signs" else 1
        if isinstance(twin, BinaryConv2d | RealConv2d):
            self._take_bits(module, twin, bits)
        if self.reading:
            self.reads[put], self.places[put] = Taken(bits, channels=self.flattened), name
        self.flattened = None
        bias = getattr(module, "bias", None)
        columns = len(module.weight)
        bias = torch.zeros(columns) if bias is None else bias.detach().float().clone()
        conv, real = isinstance(twin, BinaryConv2d | RealConv2d), isinstance(twin, RealLinear | RealConv2d)
        self.pending, self.norm, self.pooled, self.bent = (
            Pending(name, columns, conv, scale, bias, real),
            None,
            False,
            "",
        )
        self.values, self.channels, self.flat = "sums", columns, not conv

    def _take_bits(self, module: Weighted, twin: BinaryConv2d | RealConv2d, bits: int) -> None:
        """Tell a convolution the bits of its inputs, on which its padding depends."""
        if isinstance(module, BinaryConv2d | RealConv2d) and module.input_bits != bits and self.values == "signs":
            raise InputError(f"its input_bits is {module.input_bits}, but {bits} come")
        twin.input_bits = bits

    def _add_weights(self, name: str, module: Weighted) -> str:
        self._check_weights(module)
        own_signs = self._signs_of_its_own(name, module)
        if self.values not in ("pixels", "signs"):
            raise InputError(NEEDS_SIGNS)
        weight = module.weight.detach()
        self._check_inputs(module, weight)
        said, scale = scale_of(module)
        if self.values == "pixels":
            scale = scale * self.pixel_scale
        twin = binary_of(module)
        where = "digital, on pixels 0..255" if self.values == "pixels" else "read from the array"
        self._begin(name, module, twin, scale)
        return f"{own_signs}{type(twin).__name__}, {where}; {said}"

    def _signs_of_its_own(self, name: str, module: nn.Module) -> str:
        """A sign before a layer whose forward takes the signs of its inputs itself."""
        if type(module) in PLAIN or not isinstance(module, nn.Linear | nn.Conv2d) or not binarizes_inputs(module):
            return ""
        if self.values == "pixels":
            raise InputError("it takes the signs of its inputs, but the pixels are all positive")
        if self.values not in ("sums", "reals", "float"):
            return ""
        self._put_sign(f"{name}_sign")
        return "Sign, as its forward takes the signs of its inputs, and "

    def _check_inputs(self, module: nn.Module, weight: Tensor) -> None:
        conv = isinstance(module, nn.Conv2d | BinaryConv2d | RealConv2d)
        if conv and self.flat and self.values == "signs":
            raise InputError("a convolution after a dense layer or a flattening has no map")
        known = self.channels if self.flat is (not conv) else None
        if known is not None and weight.shape[1] != known:
            raise InputError(f"it takes {weight.shape[1]} {'channels' if conv else 'inputs'}, {known} come")

    def _add_norm(self, name: str, module: Norm) -> tuple[str, str]:
        if self.values == "float":
            return "kept", self.keep(name, module)
        pending = self.pending
        if pending is None or self.norm is not None or self.values != "sums":
            raise InputError("a batch norm must follow a convolution or dense layer (with its pooling), and once")
        check_norm(module, pending)
        merged = merged_of(module, pending)
        merged = affine_norm_of(merged) if pending.real else merged
        self._put_norm(name, merged)
        self.norm, self.values = merged, "reals"
        joined = bool((pending.bias != 0).any()) or bool((pending.scale != 1).any())
        return "simulated", "a threshold a column" + (f"; takes up bias and factor of {pending.name}" if joined else "")

    def _add_affine(self, module: ClassAffine, last: bool) -> str:
        pending = self.pending
        if pending is None or self.norm is not None or not last:
            raise InputError("a scale and an offset a class belong after the last layer's sums")
        pending.bias = pending.bias * module.scale.detach() + module.offset.detach()
        pending.scale = pending.scale * module.scale.detach()
        return "scale and offset of the logits"

    def _add_pool(self, name: str, module: nn.MaxPool2d) -> str:
        if pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
            raise InputError("a pooling must have dilation 1, and neither ceil_mode nor return_indices")
        if self.values == "pixels":
            raise InputError("a pooling of the pixels before the first layer has no simulation")
        if self.flat:
            raise InputError("a pooling needs a map, not columns")
        if self.pooled and self.values != "float":
            raise InputError("a layer has one pooling")
        pending = self.pending
        if self.values == "sums" and pending is not None and bool((pending.scale <= 0).any()):
            raise InputError(f"a factor of {pending.name} is negative, so its largest output is not its largest sum")
        self._put(name, copy.deepcopy(module))
        self.pooled = True
        return {"sums": "of the sums", "signs": "of the signs"}.get(self.values, "of the layer's outputs")

    def _add_average(self, name: str, module: Average) -> str:
        twin, padded = average_of(module)
        if self.values not in ("sums", "reals", "signs"):
            raise InputError("an average of the pixels or of kept modules has no simulation")
        if self.flat:
            raise InputError("a pooling needs a map, not columns")
        if self.pooled:
            raise InputError("a layer has one pooling")
        pending = self.pending
        if padded and self.values == "sums" and pending is not None and bool((pending.bias != 0).any()):
            raise InputError(f"its padding has no bias, but the outputs of {pending.name} do")
        if self.values == "reals":
            self._take_reals()
        if self.values == "sums" and self.reading and self.simulated:
            raise InputError(AVERAGED_SUMS)
        said = {"sums": "of the sums", "signs": "of the signs"}.get(self.values, "of the layer's real outputs")
        self._put(name, twin)
        self.pooled = True
        if self.values != "sums":
            self.values, self.pending, self.norm = "reals", None, None
        return f"average {said}"

    def _add_tanh(self, name: str, module: nn.Hardtanh | nn.Tanh) -> str:
        if isinstance(module, nn.Hardtanh) and not module.min_val < 0 < module.max_val:
            raise InputError(f"a hard tanh from {module.min_val} to {module.max_val} changes signs")
        if self.values not in ("sums", "reals", "float"):
            raise InputError("a tanh stands between a layer and its sign")
        self._ensure_norm()
        if isinstance(module, nn.Tanh) or (module.min_val, module.max_val) != (-1.0, 1.0) or self.pending is None:
            self.bent = (
                f"{name} ({type(module).__name__}) may only be followed by a sign: it is no hard tanh of -1 to 1"
            )
        self._put(name, copy.deepcopy(module))
        return "gradient of the sign after it, which it does not change"

    def _add_flatten(self, name: str, module: nn.Flatten) -> tuple[str, str]:
        if (module.start_dim, module.end_dim) != (1, -1):
            raise InputError("only a flattening of everything but the images, start_dim 1 and end_dim -1")
        if self.values not in ("pixels", "signs", "reals", "float"):
            raise InputError(NEEDS_SIGNS)
        self._put(name, nn.Flatten())
        self.flattened = self.flattened if self.flat else self.channels
        self.channels, self.flat = (self.channels if self.flat else None), True
        return "kept", "no arithmetic"

    def _add_dropout(self, name: str, module: nn.Module) -> tuple[str, str]:
        self._put(name, copy.deepcopy(module))
        return "kept", "for training; it does nothing in eval mode and export passes over it"

    def _add_sign(self, name: str, module: nn.Module) -> str:
        zero = 1.0 if isinstance(module, Sign) and type(module) is Sign else sign_at_zero(module)
        if zero is None:
            raise InputError("it has no simulation, and it does not give the signs of its inputs")
        if self.values not in ("sums", "reals", "float"):
            raise InputError("a sign must follow a convolution or dense layer")
        self._put_sign(name)
        return "sign with the gradient of a hard tanh" + ("" if zero == 1.0 else f"; its {zero:g} at 0 becomes +1")

    def _add_levels(self, name: str, module: Levels) -> str:
        if self.values not in ("sums", "reals"):
            raise InputError("levels must follow a convolution or dense layer")
        if self.bent:
            raise InputError(self.bent)
        self._put_sign(name)
        self.modules[next(reversed(self.modules))] = copy.deepcopy(module)
        self.bits = module.bits
        if self.cut in self.norms:
            self.norms[self.cut] = module.bits
        return f"{module.bits} bits an activation"

    def _ensure_norm(self) -> None:
        """Where weights have no batch norm, one that does nothing but add the bias."""
        pending = self.pending
        if pending is None or self.norm is not None:
            return
        plain = (nn.BatchNorm2d if pending.conv else nn.BatchNorm1d)(pending.columns, eps=0.0)
        self.norm = merged_of(plain, pending)
        self.norm = affine_norm_of(self.norm) if pending.real else self.norm
        self._put_norm(f"{pending.name}_norm", self.norm)
        self.values = "reals"

    def _put_norm(self, name: str, norm: Norm) -> None:
        put = self._put(name, norm)
        self.cut = put if self.reading else ""
        if self.reading:
            self.norms[put] = 1

    def _put_sign(self, name: str) -> None:
        self._ensure_norm()
        self._put(name, Sign())
        self.pending, self.norm, self.values, self.bent, self.bits = None, None, "signs", "", 1

    def _put(self, name: str, module: nn.Module) -> str:
        """Add a module; the name that it has got."""
        name = name.replace(".", "_")
        number, own = 2, name
        while name in self.modules:  # A module without weights may be called twice.
            name, number = f"{own}_{number}", number + 1
        self.modules[name] = module
        return name
