"""A user's own torch module turned into binary layers that cosim can simulate."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Sequence

from torch import nn

from cosim.errors import InputError
from cosim.network.mapping import Order
from cosim.surrogate.model import Surrogate
from cosim.training.becomes import Conversion, Options
from cosim.training.chain import NO_LINK, chain_of
from cosim.training.chain_conversion import convert_chain
from cosim.training.graph import Graph
from cosim.training.graph_conversion import convert_flow, convert_graph
from cosim.training.reader import ReadMode
from cosim.training.reading import check_reading

__all__ = ["Conversion", "convert", "list_convertible"]


def list_convertible(
    model: nn.Module,
    surrogate: Surrogate | None = None,
    exclude: Sequence[str] = (),
    *,
    real: Sequence[str] = (),
    pixel_scale: float = 1.0,
    mode: ReadMode | None = None,
    order: Order | None = None,
) -> tuple[Conversion, ...]:
    """What `convert` with the same arguments would do, module by module in the order of the forward.

    Nothing is changed. It is found by converting, so that `convert` refuses just what this says is refused.

    Raises:
        InputError: The forward cannot be traced, or an argument is none: a name in `exclude` or `real` that is no
            module, a mode.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> for line in list_convertible(model):
    ...     print(line)
    0 (Flatten): kept: no arithmetic
    1 (Linear): simulated: BinaryLinear, digital, on pixels 0..255; the signs of its real weights
    2 (ReLU): refused: it has no simulation, and it does not give the signs of its inputs
    3 (Linear): refused: its input is not +1 and -1: a sign must stand before it
    """
    check_reading(surrogate, mode, order)
    return tuple(_converted(model, Options(surrogate, exclude, real, pixel_scale, mode or "iid", order or "flat"))[0])


def convert(
    model: nn.Module,
    surrogate: Surrogate | None = None,
    exclude: Sequence[str] = (),
    *,
    real: Sequence[str] = (),
    pixel_scale: float = 1.0,
    mode: ReadMode | None = None,
    order: Order | None = None,
) -> nn.Sequential | Graph:
    """The model as binary layers in eval mode; the model itself is not changed.

    Of a chain of modules the result is a flat nn.Sequential of BinaryLinear, BinaryConv2d, batch norm, sign, max
    pooling and a last scale and offset; of a forward that adds outputs (shortcuts) it is a `Graph` of layers. It trains
    through straight-through gradients, `export` packs it, and it takes pixels 0..255. Biases and factors of a column
    join the batch norm after it (exact up to float32 rounding of its values).
    With a surrogate, layers that `list_convertible` says are read from the array read every partial sum through it,
    in training too; `calibrate(model, training_images)` makes the levels, and must come first. `export` packs it still.

    Args:
        model: nn.Sequential, or a module whose forward calls modules: nn.Linear, nn.Conv2d and subclasses that binarize
            in their forward, batch norm, modules that give signs, `Levels`, nn.Hardtanh, nn.Tanh, nn.MaxPool2d,
            nn.AvgPool2d, nn.AdaptiveAvgPool2d(1) or x.mean((2, 3)), nn.Flatten, nn.Dropout; one after the other, or
            with additions of a batch norm's result and an earlier output. Or a `Graph`.
        surrogate: What partial sums are read through; None for exact sums. Its rows are those of the sub-arrays.
            Weights and activations of several bits are read bit by bit. Averages of sums before their batch norm
            cannot be read so.
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
    check_reading(surrogate, mode, order)
    lines, made = _converted(model, Options(surrogate, exclude, real, pixel_scale, mode or "iid", order or "flat"))
    for line in lines:
        if line.action == "refused":
            raise InputError(line.says, place=f"module {line.module or type(model).__name__} ({line.kind})")
    assert made is not None
    return made.eval()


def _converted(model: nn.Module, options: Options) -> tuple[list[Conversion], nn.Sequential | Graph | None]:
    """What becomes of every module, and the result; None where one is refused."""
    if not (math.isfinite(options.pixel_scale) and options.pixel_scale > 0):
        raise InputError(f"pixel_scale must be positive, got {options.pixel_scale}")
    model = copy.deepcopy(model).cpu().eval()
    _check_names(model, options.exclude, options.real)
    if isinstance(model, Graph):
        return convert_graph(model, options)
    for name, module in model.named_modules():
        if isinstance(module, Graph):
            return [Conversion(name, "Graph", "refused", "a Graph is a whole network: convert it alone")], None
    calls = chain_of(model)
    if any(call.problem == NO_LINK for call in calls):
        return convert_flow(model, options)
    return convert_chain(model, calls, options)


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
