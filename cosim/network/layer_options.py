"""What a layer's group in a network file cannot hold as arrays: its window, its pooling, where its inputs come from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cosim.errors import InputError
from cosim.network.binary_layers import ConvLayer, DenseLayer
from cosim.network.outputs import Residual
from cosim.network.window import Pool, Window


@dataclass(frozen=True, slots=True)
class RealOutput:
    """The options of a `Residual` output."""

    shortcut: str = ""
    hard_tanh: bool = False


@dataclass(frozen=True, slots=True)
class Blocks:
    """The options of a `Support`."""

    block: int
    fraction_bits: int


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one layer; each is left out of the file where it is its default.

    Attributes:
        source: Name of the layer whose output it takes.
        residual: Given where the output is real.
        window: Given for a convolution.
        pool: Given for a convolution with a pooling.
        weight_bits: Bits of one weight.
        digital: Whether binary inputs are summed digitally.
        support: Given where blocks of weights have factors.
        real_weights: Whether the weights are real.
        activation_bits: Bits of one input.
        scale_inputs: Whether sums are multiplied by the mean magnitude of their inputs.
    """

    source: str = ""
    residual: RealOutput | None = None
    window: Window | None = None
    pool: Pool | None = None
    weight_bits: int = 1
    digital: bool = False
    support: Blocks | None = None
    real_weights: bool = False
    activation_bits: int = 1
    scale_inputs: bool = False


def options_of(layer: DenseLayer) -> str:
    """A layer's options as JSON; `{}` for a dense layer that takes the output of the layer before it."""
    found: dict[str, Any] = {"source": layer.source} if layer.source else {}
    if isinstance(layer.output, Residual):
        found["residual"] = {"shortcut": layer.output.shortcut, "hard_tanh": layer.output.hard_tanh}
    if layer.weight_bits > 1:
        found["weight_bits"] = layer.weight_bits
    if layer.digital:
        found["digital"] = True
    if layer.real_weights is not None:
        found["real_weights"] = True
    if layer.activation_bits > 1:
        found["activation_bits"] = layer.activation_bits
    if layer.scale_inputs:
        found["scale_inputs"] = True
    if layer.support is not None:
        found["support"] = {"block": layer.support.block, "fraction_bits": layer.support.fraction_bits}
    if isinstance(layer, ConvLayer):
        found["window"] = asdict(layer.window)
        if layer.pool is not None:
            found["pool"] = asdict(layer.pool)
            if layer.pool.kind == "max":  # As it was before version 1.3.
                del found["pool"]["kind"]
    return json.dumps(found)


def parse_options(text: str, layer: str, *, conv: bool) -> Options:
    """A layer's options from JSON.

    Raises:
        InputError: No JSON of options, an unknown option, a size that is none, or a window that is missing or not
            wanted; the layer's name is the place.
    """
    place = f"layer {layer}"
    try:
        options = TypeAdapter(Options).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all"
        raise InputError(f"layer_options, {where}: {first['msg']}", place=place) from error
    except InputError as error:
        raise InputError(error.message, place=place, hint=error.hint) from error
    unknown = _unknown(json.loads(text), asdict(options))
    if unknown:
        raise InputError(f"layer_options has unknown keys: {', '.join(unknown)}", place=place)
    if conv != (options.window is not None):
        raise InputError("a convolution needs a window, another layer has none", place=place)
    if options.pool is not None and not conv:
        raise InputError("only a convolution can have a pooling", place=place)
    return options


def _unknown(given: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """Keys that no option has; pydantic passes over them."""
    inner = [_unknown(each, known[key]) for key, each in given.items() if isinstance(each, dict) and known.get(key)]
    return [*(key for key in given if key not in known), *(key for keys in inner for key in keys)]
