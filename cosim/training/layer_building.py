"""One module of a user's model after the other, made into modules that cosim simulates."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layers import affine_of
from cosim.training.binary import BinaryLinear, ClassAffine, Sign
from cosim.training.convolutional import BinaryConv2d
from cosim.training.packed import Norm, norm_arrays, pair
from cosim.training.pixel_sign import PixelSign
from cosim.training.probing import binarizes_inputs, column_scales, sign_at_zero
from cosim.training.simulated import plain

Weighted = nn.Linear | nn.Conv2d | BinaryLinear | BinaryConv2d

_PLAIN = (nn.Linear, nn.Conv2d, BinaryLinear, BinaryConv2d)
_NEEDS_SIGNS = "its input is not +1 and -1: a sign must stand before it"


@dataclass(slots=True)
class Pending:
    """Weights whose batch norm has not come yet: the sums are multiplied by `scale` and `bias` is added."""

    name: str
    columns: int
    conv: bool
    scale: Float[Tensor, " column"]
    bias: Float[Tensor, " column"]


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
        reads: Layers that are read from arrays, with `flattened` as it was at each.
        norms: Batch norms of their sums.
        reading: Whether the pending weights are of such a layer.
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
    reads: dict[str, int | None] = field(default_factory=dict[str, "int | None"])
    norms: list[str] = field(default_factory=list[str])
    reading: bool = False

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
        if isinstance(module, Weighted):
            return "simulated", self._add_weights(name, module)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._add_norm(name, module)
        if isinstance(module, ClassAffine):
            return "simulated", self._add_affine(module, last)
        if isinstance(module, nn.MaxPool2d):
            return "simulated", self._add_pool(name, module)
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
        scale, offset = (pending.scale, pending.bias) if norm is None else _affine(norm)
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

    def _add_weights(self, name: str, module: Weighted) -> str:
        if id(module) in self.seen:
            raise InputError("it is called twice; a layer has weights of its own")
        self.seen.add(id(module))
        for what, values in module.named_parameters():
            if not bool(torch.isfinite(values).all()):
                raise InputError(f"its {what} has values that are not finite")
        own_signs = self._signs_of_its_own(name, module)
        if self.values not in ("pixels", "signs"):
            raise InputError(_NEEDS_SIGNS)
        weight = module.weight.detach()
        self._check_inputs(module, weight)
        said, scale = _scale(module)
        if self.values == "pixels":
            scale = scale * self.pixel_scale
        twin = _binary(module)
        put = self._put(name, twin)
        self.reading = self.values == "signs"
        if self.reading:
            self.reads[put] = self.flattened
        self.flattened = None
        bias = getattr(module, "bias", None)
        bias = torch.zeros(len(weight)) if bias is None else bias.detach().float().clone()
        conv = isinstance(twin, BinaryConv2d)
        self.pending, self.norm, self.pooled = Pending(name, len(weight), conv, scale, bias), None, False
        where = "digital, on pixels 0..255" if self.values == "pixels" else "read from the array"
        self.values, self.channels, self.flat = "sums", len(weight), not conv
        return f"{own_signs}{type(twin).__name__}, {where}; {said}"

    def _signs_of_its_own(self, name: str, module: nn.Module) -> str:
        """A sign before a layer whose forward takes the signs of its inputs itself."""
        if type(module) in _PLAIN or not isinstance(module, nn.Linear | nn.Conv2d) or not binarizes_inputs(module):
            return ""
        if self.values == "pixels":
            raise InputError("it takes the signs of its inputs, but the pixels are all positive")
        if self.values not in ("sums", "reals", "float"):
            return ""
        self._put_sign(f"{name}_sign")
        return "Sign, as its forward takes the signs of its inputs, and "

    def _check_inputs(self, module: nn.Module, weight: Tensor) -> None:
        conv = isinstance(module, nn.Conv2d | BinaryConv2d)
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
        if isinstance(module, nn.BatchNorm2d) != pending.conv:
            raise InputError("a batch norm is BatchNorm2d after a convolution and BatchNorm1d after a dense layer")
        if module.num_features != pending.columns:
            raise InputError(f"it takes {module.num_features} columns, {pending.columns} come")
        if module.running_mean is None or module.running_var is None:
            raise InputError("it has no running statistics")
        for what, values in module.state_dict().items():
            if not bool(torch.isfinite(values).all()):
                raise InputError(f"its {what} has values that are not finite")
        merged = _merged(module, pending)
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

    def _add_tanh(self, name: str, module: nn.Hardtanh | nn.Tanh) -> str:
        if isinstance(module, nn.Hardtanh) and not module.min_val < 0 < module.max_val:
            raise InputError(f"a hard tanh from {module.min_val} to {module.max_val} changes signs")
        if self.values not in ("sums", "reals", "float"):
            raise InputError("a tanh stands between a layer and its sign")
        self._ensure_norm()
        self._put(name, copy.deepcopy(module))
        return "gradient of the sign after it, which it does not change"

    def _add_flatten(self, name: str, module: nn.Flatten) -> tuple[str, str]:
        if (module.start_dim, module.end_dim) != (1, -1):
            raise InputError("only a flattening of everything but the images, start_dim 1 and end_dim -1")
        if self.values not in ("pixels", "signs", "float"):
            raise InputError(_NEEDS_SIGNS)
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

    def _ensure_norm(self) -> None:
        """Where weights have no batch norm, one that does nothing but add the bias."""
        pending = self.pending
        if pending is None or self.norm is not None:
            return
        plain = (nn.BatchNorm2d if pending.conv else nn.BatchNorm1d)(pending.columns, eps=0.0)
        self.norm = _merged(plain, pending)
        self._put_norm(f"{pending.name}_norm", self.norm)
        self.values = "reals"

    def _put_norm(self, name: str, norm: Norm) -> None:
        put = self._put(name, norm)
        if self.reading:
            self.norms.append(put)

    def _put_sign(self, name: str) -> None:
        self._ensure_norm()
        self._put(name, Sign())
        self.pending, self.norm, self.values = None, None, "signs"

    def _put(self, name: str, module: nn.Module) -> str:
        """Add a module; the name that it has got."""
        name = name.replace(".", "_")
        number, own = 2, name
        while name in self.modules:  # A module without weights may be called twice.
            name, number = f"{own}_{number}", number + 1
        self.modules[name] = module
        return name


def _scale(module: Weighted) -> tuple[str, Float[Tensor, " column"]]:
    """What becomes of the weights, and the factor of every column."""
    weight = module.weight.detach().flatten(1)
    ones = torch.ones(len(weight))
    if isinstance(module, BinaryLinear | BinaryConv2d):
        return "binary as it is", ones
    if type(module) not in _PLAIN:
        scale = column_scales(module)
        if scale is None:
            raise InputError("its forward is not a sum of inputs times signs of its weights, times a factor a column")
        return "its forward binarizes its weights", scale
    size = weight.abs()
    if torch.equal(size, size[:, :1].expand_as(size)) and bool((size > 0).all()):
        return "its weights are signs times a factor a column", size[:, 0].float().clone()
    zeros = int((weight == 0).sum())
    return "the signs of its real weights" + (f", {zeros} of them 0, which count as +1" if zeros else ""), ones


def _binary(module: Weighted) -> BinaryLinear | BinaryConv2d:
    """The same layer with latent weights."""
    if isinstance(module, BinaryLinear | BinaryConv2d):
        return plain(module)
    weight = module.weight.detach().float().clamp(-1.0, 1.0)
    if isinstance(module, nn.Linear):
        return BinaryLinear(weight)
    if module.groups != 1 or pair(module.dilation) != (1, 1) or module.padding_mode != "zeros":
        raise InputError(
            f"a convolution must have groups 1, dilation 1 and padding of zeros, "
            f"it has {module.groups}, {module.dilation} and {module.padding_mode!r}"
        )
    return BinaryConv2d(weight, stride=pair(module.stride), padding=_padding(module))


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    kernel = pair(module.kernel_size)
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        if any(size % 2 == 0 for size in kernel):
            raise InputError(f'padding "same" with an even kernel {kernel} is not the same on both sides')
        return (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
    padding = pair(module.padding)
    if any(pad >= size for pad, size in zip(padding, kernel, strict=True)):
        raise InputError(f"padding must be smaller than the kernel {kernel}, got {padding}")
    return padding


def _merged(norm: Norm, pending: Pending) -> Norm:
    """A batch norm of the bare sums that equals `norm` of the sums times a factor plus a bias."""
    kind = nn.BatchNorm2d if isinstance(norm, nn.BatchNorm2d) else nn.BatchNorm1d
    merged = kind(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    merged.load_state_dict(norm.state_dict(), strict=False)
    assert norm.running_mean is not None
    assert merged.running_mean is not None
    scale, bias = pending.scale.double(), pending.bias.double()
    with torch.no_grad():
        merged.running_mean.copy_((norm.running_mean.double() - bias) / scale)
        merged.weight.copy_(merged.weight.double() * scale)
    return merged


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    scale, offset = affine_of(norm_arrays(norm))
    return torch.from_numpy(scale), torch.from_numpy(offset)
