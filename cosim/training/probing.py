"""What a user's own module computes, found by calling a copy of it."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosim.training.binary import signs

_VALUES = (-30.0, -1.0, -0.5, -1e-3, -1e-20, 1e-20, 1e-3, 0.5, 1.0, 30.0)
_PROBES = 8
_TOLERANCE = 1e-4  # Of the largest output; float32 sums in another order differ by about 1e-6.


def sign_at_zero(module: nn.Module) -> float | None:
    """What a module that gives the signs of its inputs gives for 0; None for a module that gives something else."""
    if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
        return None
    values = torch.tensor(_VALUES)
    shape = (2, len(_VALUES), 1, 1)
    found = _called(module, values.view(1, -1, 1, 1).expand(shape).contiguous())
    if found is None or found.shape != shape or not torch.equal(found, signs(values).view(1, -1, 1, 1).expand(shape)):
        return None
    zero = _called(module, torch.zeros(1, 2, 1, 1))
    return None if zero is None else float(zero.flatten()[0])


def column_scales(layer: nn.Linear | nn.Conv2d) -> Float[Tensor, " column"] | None:
    """The factors by which a layer multiplies the sums of +-1 inputs with the signs of its weights.

    None where its outputs on such inputs are not these sums times a factor a column, plus its bias. The forward of
    a subclass may be any, so it is called on random inputs.
    """
    x = signs(_probe(layer))
    found = _called(layer, x)
    weight = signs(layer.weight.detach())
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            sums = nn.functional.linear(x, weight)
        else:
            sums = nn.functional.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    if found is None or found.shape != sums.shape:
        return None
    bias = 0.0 if layer.bias is None else layer.bias.detach().view(-1, *[1] * (sums.ndim - 2))
    outputs, sums = (each.transpose(0, 1).flatten(1).double() for each in (found - bias, sums))
    scale = (outputs * sums).sum(1) / (sums * sums).sum(1)
    error = (outputs - scale[:, None] * sums).abs().max()
    good = bool(torch.isfinite(scale).all()) and bool((scale != 0).all()) and error <= _TOLERANCE * outputs.abs().max()
    return scale.float() if good else None


def binarizes_inputs(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether a layer's forward takes the signs of its inputs itself."""
    x = _probe(layer)
    found = [_called(layer, each.clone()) for each in (x, signs(x))]
    return found[0] is not None and found[1] is not None and torch.equal(found[0], found[1])


def _probe(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """Random inputs around 0 for a layer."""
    if isinstance(layer, nn.Linear):
        size: tuple[int, ...] = (layer.in_features,)
    else:
        reach = zip(layer.kernel_size, layer.dilation, strict=True)
        size = (layer.in_channels, *(4 + 2 * (each - 1) * step for each, step in reach))
    return torch.rand((_PROBES, *size), generator=torch.Generator().manual_seed(0)) - 0.5


def _called(module: nn.Module, x: Tensor) -> Tensor | None:
    """What a copy of the module gives in eval mode; None where it raises or gives no tensor."""
    try:
        twin = copy.deepcopy(module).eval()
        with torch.no_grad():
            found = twin(x)
    except Exception:  # The module is a user's: anything may happen in it.
        return None
    return found if isinstance(found, Tensor) else None
