"""A user's own torch module turned into binary layers that cosim can simulate."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from cosim.errors import InputError
from cosim.network.mapping import Order
from cosim.surrogate.model import Surrogate
from cosim.training.chain import Call, chain_of, unused_modules
from cosim.training.graph import Graph
from cosim.training.layer_building import Builder
from cosim.training.reader import ReadMode
from cosim.training.simulation import simulated

_GRAPH = "it is made of layers that export packs as they are; what is converted is one chain of modules, no Graph"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert` does with one module.

    Attributes:
        module: Its path in the model, "" for what concerns none.
        kind: Its class, or the function that a forward calls.
        action: "simulated", "kept" (it stays as it is), "left out" (without effect on the result) or "refused".
        says: What it becomes, or why it is refused.
    """

    module: str
    kind: str
    action: str
    says: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.module or 'model'} ({self.kind}): {self.action}: {self.says}"


def list_convertible(
    model: nn.Module, exclude: Sequence[str] = (), *, real: Sequence[str] = (), pixel_scale: float = 1.0
) -> tuple[Conversion, ...]:
    """What `convert` would do, module by module in the order of the forward; nothing is changed.

    Raises:
        InputError: The forward cannot be traced, or a name in `exclude` or `real` is no module.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> for line in list_convertible(model):
    ...     print(line)
    0 (Flatten): kept: no arithmetic
    1 (Linear): simulated: BinaryLinear, digital, on pixels 0..255; the signs of its real weights
    2 (ReLU): refused: it has no simulation, and it does not give the signs of its inputs
    3 (Linear): refused: its input is not +1 and -1: a sign must stand before it
    """
    return _converted(model, exclude, real, pixel_scale)[0]


def convert(
    model: nn.Module,
    surrogate: Surrogate | None = None,
    exclude: Sequence[str] = (),
    *,
    real: Sequence[str] = (),
    pixel_scale: float = 1.0,
    mode: ReadMode | None = None,
    order: Order | None = None,
) -> nn.Sequential:
    """The model as binary layers in eval mode; the model itself is not changed.

    The result is a flat nn.Sequential of BinaryLinear, BinaryConv2d, batch norm, sign, max pooling and a last scale
    and offset, which trains through straight-through gradients and which `export` packs. It takes pixels 0..255.
    Biases and factors of a column join the batch norm after it (exact up to float32 rounding of its values).
    With a surrogate, layers that `list_convertible` says are read from the array read every partial sum through it,
    in training too; `calibrate(model, training_images)` makes the levels, and must come first. `export` packs it still.

    Args:
        model: nn.Sequential, or a module whose forward calls modules one after the other: nn.Linear, nn.Conv2d and
            subclasses that binarize in their forward, batch norm, modules that give signs, nn.Hardtanh, nn.Tanh,
            nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d(1), nn.Flatten, nn.Dropout.
        surrogate: What partial sums are read through; None for exact sums. Its rows are those of the sub-arrays.
            Weights and activations of several bits and averages of sums before their batch norm cannot be read so.
        exclude: Paths of modules, or of modules that hold them, to keep in floating point; `export` refuses those.
        real: Paths of nn.Linear and nn.Conv2d whose weights stay real: they are computed digitally, on pixels, on signs
            or on the numbers after a batch norm, and `export` packs them.
        pixel_scale: What the model's own input is of a pixel 0..255: 1 / 255 after torchvision's ToTensor. An input
            that is shifted too (normalized) has no conversion where it is padded.
        mode: How partial sums are read, see `set_mode`: iid by default. Only with a surrogate.
        order: How convolutions lie in rows, "flat" (the default) or "positions"; only with a surrogate. The evaluation
            of packed networks by `cosim.evaluate` is of order flat.

    Raises:
        InputError: A module that cannot be simulated, with its path as the place; `list_convertible` lists all.
    """
    if surrogate is None and (mode is not None or order is not None):
        raise InputError("a mode or a row order is for layers that read through a surrogate", hint="give the surrogate")
    lines, built = _converted(model, exclude, real, pixel_scale)
    _refuse(lines, model)
    if surrogate is None:
        return nn.Sequential(built.modules).eval()
    for place, why in built.exact_only.items():
        hint = "convert it without the surrogate and export it: cosim.evaluate reads the packed network"
        raise InputError(why, place=f"module {place}", hint=hint)
    parts = built.modules, built.reads, built.norms
    return simulated(*parts, surrogate, mode=mode or "iid", order=order or "flat").eval()


def _refuse(lines: Sequence[Conversion], model: nn.Module) -> None:
    """Raise for the first module that is refused."""
    for line in lines:
        if line.action == "refused":
            raise InputError(line.says, place=f"module {line.module or type(model).__name__} ({line.kind})")


def _converted(
    model: nn.Module, exclude: Sequence[str], real: Sequence[str], pixel_scale: float
) -> tuple[tuple[Conversion, ...], Builder]:
    if not (math.isfinite(pixel_scale) and pixel_scale > 0):
        raise InputError(f"pixel_scale must be positive, got {pixel_scale}")
    for name, module in model.named_modules():
        if isinstance(module, Graph):
            return (Conversion(name, "Graph", "refused", _GRAPH),), Builder(pixel_scale)
    model = copy.deepcopy(model).cpu().eval()
    _check_names(model, exclude, real)
    calls = chain_of(model)
    builder, lines = Builder(pixel_scale), []
    for index, call in enumerate(calls):
        lines.append(_line(builder, call, calls[index + 1 :], exclude, real))
    if not calls:
        lines.append(Conversion("", type(model).__name__, "refused", "the forward calls no module"))
    if not any(line.action == "refused" for line in lines):
        problem = builder.finish()
        if problem:
            lines.append(Conversion(calls[-1].name, _kind(calls[-1]), "refused", problem))
        lines += [
            Conversion(name, "not called", "left out", "the forward does not use it")
            for name in unused_modules(model, calls)
        ]
    return tuple(lines), builder


def _check_names(model: nn.Module, exclude: Sequence[str], real: Sequence[str]) -> None:
    modules = {name: module for name, module in model.named_modules() if name}
    for what, names in (("exclude", exclude), ("real", real)):
        for name in names:
            if name not in modules:
                near = difflib.get_close_matches(name, list(modules), 1)
                raise InputError(f"{what}: no module {name!r}", hint=f"did you mean {near[0]!r}?" if near else None)
            if what == "real" and type(modules[name]) not in (nn.Linear, nn.Conv2d):
                kind = type(modules[name]).__name__
                raise InputError(f"real: module {name!r} must be an nn.Linear or nn.Conv2d, it is {kind}")
    both = sorted(set(exclude) & set(real))
    if both:
        raise InputError(f"{', '.join(both)}: in exclude, which keeps it as it is, and in real, which packs it")


def _line(
    builder: Builder, call: Call, after: Sequence[Call], exclude: Sequence[str], real: Sequence[str]
) -> Conversion:
    def said(action: str, says: str) -> Conversion:
        return Conversion(call.name, _kind(call), action, says)

    if call.problem or call.module is None:
        return said("refused", call.problem)
    try:
        if call.name in real and isinstance(call.module, nn.Linear | nn.Conv2d):
            return said("simulated", builder.add_real(call.name, call.module))
        if any(call.name == each or call.name.startswith(f"{each}.") for each in exclude):
            return said("kept", builder.keep(call.name, call.module))
        return said(*builder.add(call.name, call.module, last=not after))
    except InputError as error:
        return said("refused", error.message)


def _kind(call: Call) -> str:
    return call.function or type(call.module).__name__
